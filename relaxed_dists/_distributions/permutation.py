"""Permutations: Sinkhorn's normalisations of noisy scores, and their limit, the best matching.

The families, which have the formulas of a distribution for any framework, are at the end.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from relaxed_dists._distributions.family import Family, Parameters
from relaxed_dists._distributions.formulas import FAR, finite_or, hot, softmaxes, straight_through
from relaxed_dists._errors import UNCOUNTED, missing
from relaxed_dists._ops import Array, Ops, QuadratureOps


def rounds(name: str, iterations: Any) -> int:
    """The number of normalisations as a Python integer; an error if it is not positive."""
    try:
        number = operator.index(iterations)
    except TypeError as error:
        raise bad_iterations(name, iterations) from error
    if isinstance(iterations, bool) or number < 1:
        raise bad_iterations(name, iterations)
    return number


def square(name: str, shape: Any) -> None:
    """Refuse logits that are not square matrices."""
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise not_square(name, shape)


def assignment(scores: Any) -> Any:
    """The 0-1 matrices of the permutations with the largest sums of scores, in NumPy.

    A permutation has entries with scores of -inf only if every permutation has some.
    """
    from scipy.optimize import linear_sum_assignment

    n = scores.shape[-1]
    # The replacement of -inf is below any sum of n finite scores, which are at most about HUGE in
    # size, and is exact in double.
    x = np.where(np.isfinite(scores), scores, 4.0 * n * FAR).astype(float).reshape(-1, n, n)
    found = np.zeros_like(x)
    for matrix, result in zip(x, found, strict=True):
        result[linear_sum_assignment(matrix, maximize=True)] = 1
    return found.reshape(scores.shape).astype(scores.dtype)


def matching(ops: QuadratureOps, logits: Array, noise: Array | float) -> Array:
    """The permutation matrix with the largest sum of logits + noise.

    A masked entry is 0. If every permutation has a masked entry, some rows are all 0.
    """
    unmasked, finite = finite_or(ops, logits)
    scores = ops.stop_gradient(ops.where(unmasked, finite + noise, -math.inf))
    return ops.where(unmasked, ops.matching(scores), 0.0)


@hot
def relaxed(
    ops: QuadratureOps,
    iterations: int,
    hard: bool,
    logits: Array,
    temperature: Array,
    gumbel: Array,
) -> Array:
    """Sinkhorn's normalisations of (logits + gumbel) / temperature, in log space.

    See Mena et al. (2018), section 2. Each round normalises rows, then columns, so that the sums of
    columns are 1 to rounding. If hard, the value is the best matching of the scores, with the
    gradient of these normalisations.
    """
    unmasked, finite = finite_or(ops, logits, FAR)
    scores = ops.where(unmasked, finite + gumbel, FAR)

    def normalise(x: Array, _: Any) -> tuple[Array, None]:
        return ops.log_softmax(ops.log_softmax(x).mT).mT, None

    start = softmaxes(ops, scores, temperature[..., None, None])[0]
    x, _ = ops.scan(normalise, start, None, iterations)
    value = ops.where(unmasked, ops.exp(x), 0.0)
    return straight_through(ops, matching(ops, logits, gumbel), value) if hard else value


def possible(logits: Any) -> bool:
    """Whether each matrix of logits, in NumPy, allows a permutation without a masked entry."""
    unmasked = np.abs(logits) < -FAR / 4
    if unmasked.all():
        return True
    return bool((assignment(np.where(unmasked, 0.0, -np.inf)) <= unmasked).all())


# The functions below make the errors of this module.


def not_square(name: str, shape: Sequence[int]) -> ValueError:
    """The error about scores that are not a square matrix."""
    return ValueError(
        f"{name} got logits of shape {tuple(shape)}; expected shape (..., N, N), a score of each "
        "item (row) at each place (column). Put the two axes last."
    )


def bad_iterations(name: str, iterations: Any) -> ValueError:
    """The error about a number of Sinkhorn's normalisations that is not positive and whole."""
    return ValueError(
        f"{name} got iterations={iterations!r}; expected a whole number of at least 1. "
        "Its authors take 20; more at temperatures below 1."
    )


def no_permutation(name: str, logits: Any) -> ValueError:
    """The error about masks that leave no permutation."""
    return ValueError(
        f"{name} got masks that leave no permutation: {logits}; expected a way to give each row a "
        "column of its own. Mask fewer."
    )


def no_permutation_density(name: str) -> NotImplementedError:
    """The error about the density of a relaxed permutation, or the mass of a discrete one."""
    why = (
        "the density of Sinkhorn's matrices is not known"
        if name.startswith("Relaxed")
        else "the probability that a matrix is the best matching of N^2 noisy scores is a sum over "
        "N! regions without a closed form"
    )
    return NotImplementedError(
        f"{name} has no log_prob: {why}; expected a distribution with one. {UNCOUNTED}; any "
        "penalty that you can write, of the logits or of the value, is a factor. "
        "See docs/subsets.md."
    )


def no_symbolic_matching(shape: Sequence[Any]) -> NotImplementedError:
    """The error about a matching in a program that jax.export makes."""
    return NotImplementedError(
        f"A permutation got scores of the symbolic shape {tuple(shape)}; expected numbers, since "
        "the matching is a call from compiled code to SciPy, which jax.export can't serialise. "
        "Export RelaxedPermutation with hard=False, and match what the program returns."
    )


def no_probs(name: str) -> NotImplementedError:
    """The error about the probabilities of a matrix of scores."""
    return NotImplementedError(
        f"{name} has no probs: its logits are scores, and no row of them is a distribution of its "
        "own; expected logits. Use the mean of some draws for how often an item is at a place."
    )


def no_transform(name: str) -> NotImplementedError:
    """The error about a sampler or an autoguide that got a distribution without a density."""
    return NotImplementedError(
        f"HMC, NUTS or an autoguide got a site of {name}, which has no density; expected one that "
        "has. Write the guide's site yourself, or draw Gumbel noise and compute the value of it. "
        "See docs/subsets.md."
    )


class Permutation(Family):
    """The family of permutation matrices."""

    event_dim = 2
    noun = "permutation matrices"
    lacks: ClassVar = {"log_prob": no_permutation_density, "probs": no_probs}
    is_discrete = True
    checks_logits = True
    support_name = "PermutationMatrix()"

    def draw(self, ops: QuadratureOps, p: Parameters, noise: Array) -> tuple[Array, None]:
        return matching(ops, p.logits, noise), None

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        binary = ((value == 0) | (value == 1)).all(-1).all(-1)
        return binary & (value.sum(-1) == 1).all(-1) & (value.sum(-2) == 1).all(-1)

    def checked(self, name: str, event_shape: Any) -> Family:
        square(name, event_shape)
        return self

    def possible(self, logits: Any) -> bool:
        return possible(logits)

    def impossible(self, name: str, logits: Any) -> Exception:
        return no_permutation(name, logits)

    def feasible(self, event_shape: Any) -> Any:
        return np.eye(event_shape[-1])

    def mode(self, ops: QuadratureOps, p: Parameters) -> Array:
        return matching(ops, p.logits, 0.0)


class RelaxedPermutation(Permutation):
    """The family of matrices whose columns sum to 1 and whose rows nearly sum to 1.

    If hard, the values are permutation matrices with the gradient of the relaxed matrix.
    """

    is_discrete = False
    support_name = "DoublyStochastic()"

    def __init__(self, iterations: int, hard: bool) -> None:
        self.iterations, self.hard = iterations, hard

    def no_transform(self) -> Exception:
        return no_transform("RelaxedPermutation")

    def draw(self, ops: QuadratureOps, p: Parameters, noise: Array) -> tuple[Array, None]:
        return relaxed(ops, self.iterations, self.hard, p.logits, p.temperature, noise), None

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        columns = abs(value.sum(-2) - 1) <= slack
        return (value >= 0).all(-1).all(-1) & columns.all(-1)

    def method(self, what: str, name: str) -> Any:
        """The method named ``what``. The mode is known for hard values only."""
        if what == "mode" and not self.hard:
            raise missing(name, what, self)
        return super().method(what, name)
