"""The options and fixtures of all tests: backends, seeds, and shares of the cases."""

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from harness import BACKENDS, Backend
from languages import Language

# Programs that tests start in several processes; each imports one of the frameworks.
collect_ignore = ["support/torchrunning.py", "support/jaxrunning.py"]

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=30)
settings.register_profile("varied", deadline=None, max_examples=100)

SHARE = (
    "share(*within): of the product of a test's parameters so many cases that each value of each "
    "parameter occurs with each value of those named; all of them by --whole."
)
TURNS = "turns(taken): the cases whose parameters taken is false for run with --whole only"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flags --seed, which varies the seeds, and --whole, which runs all cases."""
    parser.addoption("--seed", type=int, default=None, help="vary the seeds (default: fixed)")
    parser.addoption("--whole", action="store_true", help="all cases of laws that take a share")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and use fixed Hypothesis examples unless --seed is given."""
    config.addinivalue_line("markers", SHARE)
    config.addinivalue_line("markers", TURNS)
    # xdist would start the files with few tests last, and some of those take longest.
    config.option.loadscopereorder = False
    settings.load_profile("fixed" if config.getoption("--seed") is None else "varied")


@pytest.hookimpl(trylast=True)  # after -k, which selects first
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the cases that a test marked by share or turns doesn't need."""
    if config.getoption("--whole"):
        return
    spare = {
        id(item)
        for item in items
        for mark in item.iter_markers("turns")
        if not mark.args[0](**item.callspec.params)
    }
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if id(item) not in spare and item.get_closest_marker("share"):
            tests.setdefault(item.nodeid.split("[")[0], []).append(item)
    for cases in tests.values():
        spare |= {id(item) for item in cases} - {id(item) for item in covering(cases)}
    if spare:
        config.hook.pytest_deselected(items=[item for item in items if id(item) in spare])
        items[:] = [item for item in items if id(item) not in spare]


def covering(cases: list[pytest.Item]) -> list[pytest.Item]:
    """Cases with every value of every parameter, for each value of the marker's parameters.

    Repeatedly, this adds the case with the most new values; among equals, the case whose values
    were used least, so that the share is spread over the product.
    """
    (mark, *_), values = cases[0].iter_markers("share"), []
    for case in cases:
        given = {name: id(value) for name, value in case.callspec.params.items()}
        inside = tuple(given[name] for name in mark.args)
        together = [m.args[0] for m in case.iter_markers("parametrize")]
        axes = [(x,) if isinstance(x, str) else tuple(x) for x in together]
        axes += [(name,) for name in given if not any(name in axis for axis in axes)]
        values.append({(inside, axis, tuple(given[x] for x in axis)) for axis in axes})
    left, used, kept = set().union(*values), dict.fromkeys(set().union(*values), 0), []
    while left:
        best = max(
            range(len(cases)),
            key=lambda i: (len(values[i] & left), -sum(used[v] for v in values[i]), -i),
        )
        kept.append(cases[best])
        left -= values[best]
        for value in values[best]:
            used[value] += 1
    return kept


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of the random draws: the flag's value, or 0."""
    return request.config.getoption("--seed") or 0


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether the flag --whole asks for all cases of tests that otherwise run a share."""
    return bool(request.config.getoption("--whole"))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each installed backend, in a context of double precision."""
    made = BACKENDS[request.param]()
    pytest.importorskip(made.framework)
    with made.double():
        yield made


@pytest.fixture
def language(backend: Backend) -> Language:
    """The modelling statements and inference of the backend's framework."""
    return backend.language


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> Iterator[None]:
    """After each file, freeze the remaining objects, mostly JAX's caches: gc then skips them."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _global_state(seed: int) -> Iterator[None]:
    """Reset global state, so that a test doesn't depend on the tests that ran before it.

    torch.compile switches off torch's validation, and Pyro keeps parameters in a global store.
    """
    torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    if torch is not None:
        torch.manual_seed(seed)
    yield
    if torch is not None:
        torch.distributions.Distribution.set_default_validate_args(True)
    if "pyro" in sys.modules:
        sys.modules["pyro"].clear_param_store()
