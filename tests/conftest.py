"""Fixtures: a backend, its array operations in double precision, and the seed."""

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from harness import BACKENDS, Backend

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=30)
settings.register_profile("varied", deadline=None, max_examples=100)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flags that vary the seeds, and that take all cases in place of a share."""
    parser.addoption("--seed", type=int, default=None, help="vary the seeds (default: fixed)")
    parser.addoption("--whole", action="store_true", help="all cases of laws that take a share")


def pytest_configure(config: pytest.Config) -> None:
    """Fixed examples by default."""
    settings.load_profile("fixed" if config.getoption("--seed") is None else "varied")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of the random draws: 0, or that of the flag."""
    return request.config.getoption("--seed") or 0


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether all cases are asked for, where a law takes a share of them."""
    return bool(request.config.getoption("--whole"))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend that is installed, in double precision unless asked otherwise."""
    made = BACKENDS[request.param]()
    pytest.importorskip(made.framework)
    with made.double():
        yield made


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> Iterator[None]:
    """What a file leaves, JAX's caches above all, the garbage collector need not walk again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _global_state(seed: int) -> Iterator[None]:
    """Find and leave none: a test draws the same whichever ran before it in the process.

    torch.compile switches torch's validation off, Pyro keeps parameters by name.
    """
    torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    if torch is not None:
        torch.manual_seed(seed)
    yield
    if torch is not None:
        torch.distributions.Distribution.set_default_validate_args(True)
    if "pyro" in sys.modules:
        sys.modules["pyro"].clear_param_store()
