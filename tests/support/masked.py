"""Distributions with two of five categories masked, by logits of -inf or probs of exactly 0."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import BACKENDS, Backend

INF, T = np.inf, 0.5
UNMASKED = np.array([0, 2, 4])
WEIGHTS = np.array([0.5, 0.0, 1.5, 0.0, 2.0])  # as logits, the weights of 0 are -inf
W = np.array([0.3, -1.0, 0.7, 2.0, -0.4])  # the coefficients of a linear function

DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "log space": lambda names, **p: names.ExpRelaxedOneHotCategorical(T, **p),
    "simplex": lambda names, **p: names.RelaxedOneHotCategorical(T, **p),
    "straight-through": lambda names, **p: names.RelaxedOneHotCategoricalStraightThrough(T, **p),
    "discrete": lambda names, **p: names.OneHotCategorical(**p),
    "discrete, through probs": lambda names, **p: names.OneHotCategorical(
        estimator=names.StraightThrough(), **p
    ),
    "discrete, hard": lambda names, **p: names.OneHotCategorical(
        estimator=names.GumbelSoftmax(T), **p
    ),
    "discrete, soft": lambda names, **p: names.OneHotCategorical(
        estimator=names.GumbelSoftmax(T, hard=False), **p
    ),
}
each = pytest.mark.parametrize("name", DISTRIBUTIONS)
precise = pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-5), ("float64", 1e-12)])
by = pytest.mark.parametrize("by", ["logits", "probs"])


def parameter(by: str) -> np.ndarray:
    """The parameter that masks two of five categories."""
    with np.errstate(divide="ignore"):
        return np.log(WEIGHTS) if by == "logits" else WEIGHTS


def make(backend: Backend, name: str, by: str, x: Any) -> Any:
    """A distribution of the table, with its parameter as an array of the framework."""
    return DISTRIBUTIONS[name](backend.names, **{by: x})


def gradient(backend: Backend, f: Callable[..., Any], by: str, dtype: str) -> np.ndarray:
    """The gradient of f at the unmasked categories; at the masked ones it is exactly 0."""
    (found,) = backend.grad(f, backend.array(parameter(by), dtype))
    np.testing.assert_array_equal(found[[1, 3]], 0)
    return found[UNMASKED]


def value_and_gradient(
    backend: Backend, f: Callable[..., Any], by: str, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """The value of f, and its gradient at the unmasked categories."""
    value, found = backend.with_gradient(f, backend.array(parameter(by), dtype))
    np.testing.assert_array_equal(found[[1, 3]], 0)
    return value, found[UNMASKED]


def reference(backend: Backend) -> Backend:
    """The backend that computes expected values: torch if installed, since it compiles nothing."""
    return BACKENDS["pyro"]() if importlib.util.find_spec("pyro") else backend
