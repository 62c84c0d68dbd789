"""A distribution of every public class, for tests that hold for all of them."""

from typing import Any

import numpy as np
import pytest

from cases import DISCRETE, RELAXED
from harness import Backend

ESTIMATORS = {
    "StraightThrough": (),
    "GumbelSoftmax": (0.5,),
    "GumbelSoftmax soft": (0.5, False),
    "GumbelRao": (0.5, 2),
    "ReinMax": (),
    "ReinMaxRao": (0.5, 2),
    "GappedStraightThrough": (0.5,),
    "DecoupledGumbelSoftmax": (0.3, 1.0),
}
NO_DENSITY = ["RelaxedSubset", "Permutation", "RelaxedPermutation"]
STRUCTURED = ["Subset", *NO_DENSITY]
HARD = ["RelaxedSubset hard", "RelaxedPermutation hard"]
NO_RSAMPLE = [*DISCRETE, "Subset", "Permutation"]
NAMES = [
    *RELAXED,
    "HardConcrete",
    *DISCRETE,
    *(f"{name} {estimator}" for name in DISCRETE for estimator in ESTIMATORS),
    *STRUCTURED,
]
# Each class without an estimator, the discrete classes also with GumbelSoftmax, and HARD.
EVERY = [name for name in NAMES if " " not in name or name.endswith(" GumbelSoftmax")] + HARD


def every_second(names: list[str], first: int = 0) -> pytest.MarkDecorator:
    """Mark a test that NumPyro, which compiles each shape, runs on every second name only."""
    return pytest.mark.turns(
        lambda backend, name, **_: backend == "pyro" or names.index(name) % 2 == first
    )


def event_dim(name: str) -> int:
    """The number of dimensions of an event."""
    return 2 if "Permutation" in name else int("OneHot" in name or "Subset" in name)


def arguments(name: str, logits: Any, temperature: Any = 0.5) -> dict[str, Any]:
    """The arguments of the class, without an estimator."""
    given = {"logits": logits}
    if name in ("Subset", "RelaxedSubset"):
        given["k"] = 2
    if name in RELAXED or name in ("HardConcrete", "RelaxedSubset", "RelaxedPermutation"):
        given["temperature"] = temperature
    return given


def with_logits(backend: Backend, name: str, logits: Any, temperature: Any = 0.5) -> Any:
    """A distribution of the table, made from logits."""
    cls, _, estimator = name.partition(" ")
    given = arguments(cls, logits, temperature)
    if estimator == "hard":
        given["hard"] = True
    elif estimator:
        of = getattr(backend.names, estimator.removesuffix(" soft"))
        given["estimator"] = of(*ESTIMATORS[estimator])
    return getattr(backend.names, cls)(**given)


def numbers(name: str, batch: tuple[int, ...] = (2,), seed: int = 0) -> np.ndarray:
    """Logits of a batch shape."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=batch + (3,) * event_dim(name))


def made(backend: Backend, name: str, batch: tuple[int, ...] = (2,), dtype: str = "float64") -> Any:
    """A distribution of the table."""
    return with_logits(backend, name, backend.array(numbers(name, batch), dtype))
