"""The rounds of relaxed subsets where a softmax is near 0 or 1, to mpmath's numbers."""

import functools
from typing import Any

import mpmath
import numpy as np
import pytest

from harness import Backend
from relaxed_dists._distributions import subset
from test_derivatives import Derivatives

ROUNDS = 3
# Temperatures and scores.
POINTS = [
    (1e-3, [50.0, 20.001, 20.0, -49.9999, -50.0]),  # almost k-hot; the other scores underflow
    (0.5, [1.0, 1.0, 0.2, -1.0, -1.0]),  # two of the largest score
    (2.0, [3.0, 3.0, 3.0, 3.0, 3.0]),
    (1.0, [150.0, 0.5, 0.0, -1.0, 1.0]),  # after the first round the largest weighs as the others
    (1.0, [1000.0, 0.5, 0.0, -1.0, -1000.0]),
    (0.3, [-1.0, -np.inf, 0.3, 40.0, 0.2]),
]
TEMPERATURES, SCORES = (np.array(x) for x in zip(*POINTS, strict=True))
WEIGHTS = np.cos(1.0 + np.arange(SCORES.size)).reshape(SCORES.shape)
DIRECTION = np.sin(2.0 + np.arange(SCORES.size)).reshape(SCORES.shape)


def rounds(scores: list[Any], t: Any) -> list[Any]:
    """Xie and Ermon (2019), algorithm 1, in mpmath, which neither overflows nor underflows."""
    value = [mpmath.mpf(0) for _ in scores]
    for _ in range(ROUNDS):
        e = [mpmath.exp(x / t) for x in scores]
        total = mpmath.fsum(e)
        value = [v + x / total for v, x in zip(value, e, strict=True)]
        rest = [mpmath.fsum(e[:i] + e[i + 1 :]) for i in range(len(e))]
        scores = [x + mpmath.log(r / total) for x, r in zip(scores, rest, strict=True)]
    return value


def slope(f: Any, point: list[Any], direction: list[Any]) -> Any:
    """A central difference with 40 digits."""
    h = mpmath.mpf(10) ** -40
    up, down = (f([x + s * h * d for x, d in zip(point, direction, strict=True)]) for s in (1, -1))
    return (up - down) / (2 * h)


@functools.cache
def expected() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values, and of their weighted sum the gradients and the gradients' slopes.

    The gradients are by the scores and, in the last column, by the temperature. The slopes are
    along DIRECTION, at a fixed temperature.
    """
    value = np.zeros(SCORES.shape)
    first, second = np.zeros((2, len(POINTS), SCORES.shape[1] + 1))
    with mpmath.workdps(200):
        for i, (t, scores) in enumerate(POINTS):
            on = [j for j, x in enumerate(scores) if x > -np.inf]
            point = [mpmath.mpf(x) for x in (*(scores[j] for j in on), t)]
            direction = [mpmath.mpf(x) for x in (*DIRECTION[i, on], 0)]
            value[i, on] = rounds(point[:-1], point[-1])
            weights = [mpmath.mpf(x) for x in WEIGHTS[i, on]]

            def total(x: list[Any], weights: list[Any] = weights) -> Any:
                return mpmath.fdot(weights, rounds(x[:-1], x[-1]))

            for n, j in enumerate([*on, -1]):
                unit = [mpmath.mpf(m == n) for m in range(len(point))]
                by = functools.partial(slope, total, direction=unit)
                first[i, j], second[i, j] = by(point), slope(by, point, direction)
    return value, first, second


def relaxed(backend: Backend, scores: Any, t: Any) -> Any:
    """The values of the library."""
    return subset.relaxed(backend.private.ops, ROUNDS, False, scores, t, 0.0 * t[:, None])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("float64", 1e-9)])
def test_values_and_gradients(backend: Backend, dtype: str, tolerance: float) -> None:
    """Values and gradients are right.

    In float32, 50 / 1e-3 is rounded to 4e-3: the first point is for float64.
    """
    given = [backend.array(x, dtype) for x in (SCORES, TEMPERATURES)]
    weights = backend.array(WEIGHTS, dtype)
    value = backend.numpy(backend.compiled(lambda *x: relaxed(backend, *x))(*given))
    by_scores, by_t = backend.grad(
        backend.compiled(lambda *x: (weights * relaxed(backend, *x)).sum()), *given
    )
    some = slice(dtype == "float32", None)
    first = np.column_stack([by_scores, by_t])
    for found, right in zip((value, first), expected(), strict=False):
        scale = 1 + abs(right).max(-1, keepdims=True)
        np.testing.assert_allclose((found / scale)[some], (right / scale)[some], 0, tolerance)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_second_derivatives(backend: Backend) -> None:
    """Derivatives in forward mode, and second ones in all orders of two modes, are right."""
    weights = backend.array(WEIGHTS)
    f = Derivatives(backend, lambda *x: (weights * relaxed(backend, *x)).sum())
    _, first, second = expected()
    forward, *others = f.second([SCORES, TEMPERATURES], [DIRECTION, 0 * TEMPERATURES])
    slopes = (first[:, :-1] * DIRECTION).sum()
    np.testing.assert_allclose(forward, slopes, 1e-9)
    right = np.concatenate([second[:, :-1].ravel(), second[:, -1]])
    for found in others:
        np.testing.assert_allclose(found, right, 1e-7, 1e-9 * abs(right).max())
