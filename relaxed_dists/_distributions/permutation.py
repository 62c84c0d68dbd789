"""Permutations: Sinkhorn's normalisations of noisy scores, and the matching that they tend to."""

import math
import operator
from typing import Any

import numpy as np

from relaxed_dists import _errors_structured as _errors
from relaxed_dists._distributions.formulas import FAR, Array, Ops, _finite, straight_through


def rounds(name: str, iterations: Any) -> int:
    """The number of normalisations as a Python number."""
    try:
        number = operator.index(iterations)
    except TypeError as error:
        raise _errors.bad_iterations(name, iterations) from error
    if isinstance(iterations, bool) or number < 1:
        raise _errors.bad_iterations(name, iterations)
    return number


def square(name: str, shape: Any) -> None:
    """Refuse logits whose event is not a square."""
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise _errors.not_square(name, shape)


def assignment(scores: Any) -> Any:
    """The 0-1 matrices of the permutations with the largest sums of scores, in NumPy.

    Scores of -inf are used only where there is no other way.
    """
    from scipy.optimize import linear_sum_assignment

    n = scores.shape[-1]
    # Less than any sum of others, as HUGE bounds them, and exact in double.
    x = np.where(np.isfinite(scores), scores, 4.0 * n * FAR).astype(float).reshape(-1, n, n)
    found = np.zeros_like(x)
    for matrix, result in zip(x, found, strict=True):
        result[linear_sum_assignment(matrix, maximize=True)] = 1
    return found.reshape(scores.shape).astype(scores.dtype)


def matching(ops: Ops, logits: Array, noise: Array | float) -> Array:
    """The permutation matrix with the largest sum of logits + noise.

    An entry that is masked is 0; so is a row where the masks leave no permutation.
    """
    kept, finite = _finite(ops, logits)
    scores = ops.stop_gradient(ops.where(kept, finite + noise, -math.inf))
    return ops.where(kept, ops.matching(scores), 0.0)


def relaxed(
    ops: Ops, iterations: int, hard: bool, logits: Array, temperature: Array, gumbel: Array
) -> Array:
    """Sinkhorn of (logits + gumbel) / temperature: rows, then columns, in log space.

    Mena et al. (2018), section 2. The columns come last, so their sums are 1 to rounding.
    """
    kept, finite = _finite(ops, logits, FAR)
    scores = ops.where(kept, finite + gumbel, FAR)

    def normalise(x: Array, _: Any) -> tuple[Array, None]:
        return ops.log_softmax(ops.log_softmax(x).mT).mT, None

    start = ops.softmaxes_at(scores, temperature[..., None, None])[0]
    x, _ = ops.scan(normalise, start, None, iterations)
    value = ops.where(kept, ops.exp(x), 0.0)
    return straight_through(ops, matching(ops, logits, gumbel), value) if hard else value


def possible(logits: Any) -> bool:
    """Whether the masks of each matrix leave a permutation, in NumPy."""
    kept = np.abs(logits) < -FAR / 4
    if kept.all():
        return True
    return bool((assignment(np.where(kept, 0.0, -np.inf)) <= kept).all())
