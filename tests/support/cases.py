"""The table of the relaxed distributions, with what the tests need to know of each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from numpy_ops import binary_concrete_density, concrete_density


@dataclass(frozen=True)
class Case:
    """A relaxed distribution, its value space and its density by the paper."""

    name: str
    one_hot: bool  # whether values are vectors over categories
    to_value: Callable[[np.ndarray], np.ndarray]  # from a point of the simplex, or of (0, 1)
    to_log: Callable[[np.ndarray], np.ndarray]  # from a value to log or logit space
    density: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # at logits, t, point
    straight_through: str  # the class whose values are rounded, with the relaxed gradient
    discrete: str


def _in_log_space(logits: np.ndarray, t: np.ndarray, x: np.ndarray) -> np.ndarray:
    return concrete_density(logits, t, x) * x.prod(-1)


def _in_logit_space(logits: np.ndarray, t: np.ndarray, x: np.ndarray) -> np.ndarray:
    return binary_concrete_density(logits, t, x) * x * (1 - x)


def _same(x: np.ndarray) -> np.ndarray:
    return x


_ONE_HOT = ("RelaxedOneHotCategoricalStraightThrough", "OneHotCategorical")
_BINARY = ("RelaxedBernoulliStraightThrough", "Bernoulli")

CASES = [
    Case("ExpRelaxedOneHotCategorical", True, np.log, _same, _in_log_space, *_ONE_HOT),
    Case("RelaxedOneHotCategorical", True, _same, np.log, concrete_density, *_ONE_HOT),
    Case("LogitRelaxedBernoulli", False, logit, _same, _in_logit_space, *_BINARY),
    Case("RelaxedBernoulli", False, _same, logit, binary_concrete_density, *_BINARY),
]
STRAIGHT_THROUGH = [_ONE_HOT[0], _BINARY[0]]
DISCRETE = [_ONE_HOT[1], _BINARY[1]]
RELAXED = [case.name for case in CASES] + STRAIGHT_THROUGH
MIXED = ["HardConcrete"]  # relaxed, with point masses at 0 and 1: tested in test_hard_concrete


def interior(rng: np.random.Generator, case: Case, k: int, n: int) -> np.ndarray:
    """n points inside the simplex of k categories, or inside (0, 1)."""
    if case.one_hot:
        return rng.dirichlet(np.ones(k), n)
    return expit(rng.normal(0, 2, n))


def parameters(
    rng: np.random.Generator, one_hot: bool, k: int, batch: tuple[int, ...]
) -> np.ndarray:
    """Logits of a batch shape."""
    return rng.normal(0, 1.5, (*batch, k) if one_hot else batch)


def values(rng: np.random.Generator, name: str, k: int, n: int) -> np.ndarray:
    """n values in the space of a relaxed or a discrete distribution."""
    for case in CASES:
        if case.name == name:
            return case.to_value(interior(rng, case, k, n))
    if name == "OneHotCategorical":
        return np.eye(k)[rng.integers(0, k, n)]
    return rng.integers(0, 2, n).astype(float)
