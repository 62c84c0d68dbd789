"""On several devices, values are those of one device, and each device computes its own part.

The cases run in one process with eight devices, since JAX asks for their number when it starts. A
test here has the name and the parameters of a function of tests/support/sharding.py, which returns
what is wrong.
"""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from harness import SUPPORT
from machinery import HARD, NAMES
from sharding import BY_CATEGORIES, BY_ROWS, WAYS

jax = pytest.importorskip("jax")
pytest.importorskip("numpyro")

# Explicit axes of a mesh, and shard_map with its checks: arrays have a type that names axes.
TYPED = re.compile("explicit|shard_map(?! unchecked)")
NEWER = pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="needs JAX 0.7.1")


def marked(values: list[Any]) -> list[Any]:
    """Ways of a computation or kinds of a mesh, with a mark for those that need a newer JAX."""
    typed = [TYPED.match(x if isinstance(x, str) else x[0]) for x in values]
    return [pytest.param(x, marks=NEWER) if t else x for x, t in zip(values, typed, strict=True)]


ONE_HOT = [name for name in NAMES if "OneHot" in name]
SMOOTH = ["RelaxedOneHotCategorical", "RelaxedBernoulli", "ExpRelaxedOneHotCategorical"]
INTEGRALS = [*SMOOTH, "HardConcrete", "Subset"]
FIVE = [WAYS[i] for i in (3, 9, 10, 13, 14)]
FEW = [("mean", SMOOTH[0], FIVE[0]), ("kl", SMOOTH[1], FIVE[1]), ("rest", SMOOTH[1], FIVE[2])]
# Without --whole, one of several distributions with the same formulas: those left out are others'
# logarithms or logits, or draw what is then made hard. So each way has a distribution.
ROWS = [
    "RelaxedOneHotCategorical",
    "RelaxedBernoulli",
    "RelaxedOneHotCategoricalStraightThrough",
    "HardConcrete",
    "OneHotCategorical",
    "OneHotCategorical GumbelSoftmax",
    "Bernoulli GumbelSoftmax",
    "Subset",
    "RelaxedSubset hard",
    "Permutation",
    "RelaxedPermutation hard",
]
CATEGORIES = [
    "RelaxedOneHotCategorical",
    *(
        f"OneHotCategorical {name}"
        for name in ("GumbelSoftmax soft", "GumbelRao", "ReinMaxRao", "GappedStraightThrough")
    ),
]


def case_of(item: Any) -> tuple[str, dict[str, Any]]:
    """The function of sharding.py that a test is named after, and its arguments."""
    return item.originalname.removeprefix("test_"), item.callspec.params


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> dict[str, str]:
    """What is wrong in each test of this file, by its name; all cases run together."""
    mine = [item for item in request.session.items if item.path == request.path]
    items = [x for x in mine if not any(mark.args[0] for mark in x.iter_markers("skipif"))]
    done = subprocess.run(
        [sys.executable, SUPPORT / "sharding.py"],
        input=json.dumps([case_of(item) for item in items]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names = [item.nodeid for item in items]
    return dict(zip(names, json.loads(done.stdout), strict=True))


@pytest.fixture
def wrong(request: pytest.FixtureRequest, found: dict[str, str]) -> str:
    """What is wrong in the case of a test."""
    return found[request.node.nodeid]


@pytest.mark.turns(lambda name, **_: name in ROWS)
@pytest.mark.share
@pytest.mark.parametrize("name", NAMES + HARD)
@pytest.mark.parametrize("way", marked([x for x in WAYS if x not in BY_CATEGORIES]), ids="-".join)
def test_rows(name: str, way: tuple[str, str], wrong: str) -> None:
    """Draws, densities and gradients are those of one device, and need no message."""
    assert wrong == ""


@pytest.mark.turns(lambda name, **_: name in CATEGORIES)
@pytest.mark.share
@pytest.mark.parametrize("name", ONE_HOT)
@pytest.mark.parametrize("way", marked(BY_CATEGORIES), ids="-".join)
def test_categories(name: str, way: tuple[str, str], wrong: str) -> None:
    """Devices that share a row's categories have these values too: they send a number a row.

    One of the rows has a mask for all categories of a device.
    """
    assert wrong == ""


@pytest.mark.turns(lambda group, name, way, **_: (group, name, way) in FEW)
@pytest.mark.parametrize("name", INTEGRALS)
@pytest.mark.parametrize("way", marked(FIVE), ids="-".join)
@pytest.mark.parametrize("group", ["mean", "variance", "kl", "rest"])
def test_integrals(group: str, name: str, way: tuple[str, str], wrong: str) -> None:
    """Moments, entropies, KL divergences and their gradients are those of one device."""
    assert wrong == ""


@pytest.mark.share
@pytest.mark.parametrize("name", ["RelaxedOneHotCategorical", "RelaxedBernoulli"])
@pytest.mark.parametrize("mesh", marked(["auto", "explicit"]))
@pytest.mark.parametrize("placement", BY_ROWS)
def test_memory(placement: str, mesh: str, name: str, wrong: str) -> None:
    """A device needs its share of the memory."""
    assert wrong == ""


@NEWER
@pytest.mark.parametrize("name", ["HardConcrete", "Bernoulli GumbelSoftmax", "OneHotCategorical"])
def test_masks(name: str, wrong: str) -> None:
    """Masks for all rows and masks that are sharded hide values, even NaN, on explicit axes."""
    assert wrong == ""


@pytest.mark.parametrize("mesh", marked(["auto", "explicit"]))
def test_svi(mesh: str, wrong: str) -> None:
    """A training over a mesh ends with one device's parameters, and goes on from a checkpoint."""
    assert wrong == ""


@pytest.mark.turns(lambda name, **_: name == "Bernoulli")
@pytest.mark.parametrize("name", ["RelaxedOneHotCategorical", "Bernoulli"])
def test_concatenated_noise(name: str, wrong: str) -> None:
    """Noise made of concatenated halves would be sent to other devices, as unsigned integers."""
    assert " of u32[" in wrong
