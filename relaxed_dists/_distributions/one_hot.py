"""The relaxed one-hot families: in log space, on the simplex, and straight through.

A family has the formulas of a distribution, for any framework. In the formulas K is the number of
unmasked categories (those with a logit above -inf), t is the temperature, and y is a log value. A
draw may keep a sample behind its value: an array from which the density is computed without the
value's rounding. See Maddison et al. (2017), section 3.1, and appendix C.3 for the log space.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

from relaxed_dists import _errors
from relaxed_dists._distributions import discrete, divergences, log_moments, quadrature
from relaxed_dists._distributions.family import Family, HardValue, Parameters
from relaxed_dists._distributions.formulas import (
    FAR,
    HUGE,
    LOWEST,
    count,
    finite_or,
    hard_argmax,
    hot,
    logsumexp,
    normaliser,
    on_simplex,
    softmax,
    softmaxes,
    straight_through,
)
from relaxed_dists._ops import Array, Ops, QuadratureOps


@hot
def concrete(ops: Ops, logits: Array, temperature: Array, gumbel: Array) -> tuple[Array, Array]:
    """The log value log_softmax((logits + gumbel) / temperature), and the value, its exp."""
    unmasked, logits = finite_or(ops, logits, FAR)
    log_value, value = softmaxes(ops, logits + gumbel, temperature[..., None])
    return ops.where(unmasked, log_value, -math.inf), ops.where(unmasked, value, 0.0)


@hot
def straight_through_concrete(
    ops: Ops, logits: Array, temperature: Array, gumbel: Array
) -> tuple[Array, Array]:
    """The log value, as in ``concrete``, and the one-hot argmax with the value's gradient."""
    unmasked, logits = finite_or(ops, logits, FAR)
    scores = logits + gumbel
    log_value, value = softmaxes(ops, scores, temperature[..., None])
    # The argmax is that of the scores: at high temperatures, entries of the log value are rounded
    # to the same number. The maximum is subtracted, as in softmaxes: else XLA fuses the noise into
    # a scalar loop, and a draw takes six times as long on a CPU.
    hard = ops.one_hot_argmax(scores - ops.max(scores)[..., None])
    hard = straight_through(ops, hard, value)
    return ops.where(unmasked, log_value, -math.inf), ops.where(unmasked, hard, 0.0)


@hot
def concrete_value(ops: Ops, logits: Array, temperature: Any, gumbel: Array, hard: bool) -> Array:
    """The softmax of (logits + gumbel) / temperature; if hard, its argmax with its gradient."""
    value = concrete(ops, logits, 0.0 * gumbel[..., 0] + temperature, gumbel)[1]
    # The argmax is that of the scores: at low temperatures two entries of the value can be rounded
    # to the same number.
    return straight_through(ops, hard_argmax(ops, logits, gumbel), value) if hard else value


def _log_space(ops: Ops, logits: Array, temperature: Array, y: Array) -> Array:
    """The terms of the log density in log space, log_softmax(logits - t y)_k."""
    # With s = logits - t y, the density sums log_softmax(s) over k. The same sum, written as
    # sum(s) - K logsumexp(s), would subtract two numbers of size K |s|, and lose digits.
    return ops.log_softmax(logits - temperature[..., None] * y)


def _simplex(ops: Ops, logits: Array, temperature: Array, y: Array) -> Array:
    """The log density's terms on the simplex. Each includes -y_k: separate sums would cancel."""
    return _log_space(ops, logits, temperature, y) - y


def _masked(
    ops: Ops, terms: Callable[..., Array], logits: Array, temperature: Array, y: Array
) -> Array:
    """The log density: the normaliser plus the sum of the terms over the unmasked categories.

    The unmasked categories span a face of the simplex. The density is zero outside this face and on
    the boundary of the face.
    """
    unmasked, finite = finite_or(ops, logits, FAR)
    inside = unmasked & (abs(y) < math.inf)
    off = ops.where(unmasked | (y != -math.inf), -math.inf, 0.0)
    y = ops.where(inside, ops.clip(y, LOWEST, -LOWEST), 0.0)
    total = ops.sum(ops.where(inside, terms(ops, finite, temperature, y), off))
    density = normaliser(ops, count(ops, unmasked, finite), temperature) + total
    return ops.where(total > -math.inf, density, -math.inf)


@hot
def exp_concrete_log_prob(ops: Ops, logits: Array, temperature: Array, log_value: Array) -> Array:
    """The log density lgamma(K) + (K-1) log t + sum_k log_softmax(logits - t log_value)_k."""
    return _masked(ops, _log_space, logits, temperature, log_value)


@hot
def concrete_log_prob(ops: Ops, logits: Array, temperature: Array, log_value: Array) -> Array:
    """The log density on the simplex: the log density in log space minus the sum of log_value."""
    return _masked(ops, _simplex, logits, temperature, log_value)


@hot
def own_concrete_log_prob(
    ops: Ops, logits: Array, temperature: Array, log_value: Array, value: Any = None
) -> Array:
    """The log density of a sample that was drawn from these parameters with a gradient to them.

    The scores logits - t y are minus the noise plus a constant, which log_softmax removes. So the
    gradient of log_softmax with respect to the parameters, directly and through y, is zero in
    total, and stop_gradient saves computing it. The log value of an unmasked category is finite.
    """
    unmasked, finite = finite_or(ops, logits, FAR)
    y = ops.where(unmasked, log_value, 0.0)
    logs = ops.log_softmax(ops.stop_gradient(finite - temperature[..., None] * y))
    total = ops.sum(ops.where(unmasked, logs - y, 0.0))
    return normaliser(ops, count(ops, unmasked, finite), temperature) + total


def log_of(ops: Ops, p: Parameters, value: Array) -> Array:
    """log max(value, tiny), which is finite, but -inf at an exact zero of a masked category."""
    logs = ops.log(ops.clip(value, p.tiny, math.inf))
    return ops.where((value > 0) | (abs(p.logits) < HUGE), logs, -math.inf)


def underflows(ops: Ops, p: Parameters, value: Array) -> Array:
    """Whether a point of the simplex has an entry below tiny, whose log can't be recovered.

    Zeros of masked categories are ignored. The result is False for a point with weight on a masked
    category, since the density of such a point is 0 whatever its other entries are.
    """
    unmasked, one = abs(p.logits) < HUGE, 0.0 * value + 1.0
    small = ops.max(ops.where(unmasked & (value < p.tiny), one, 0.0))
    off = ops.max(ops.where(unmasked | (value == 0), 0.0 * one, one))
    return small > off


class _RelaxedOneHot(Family):
    noise_in_kernel = True

    def probs(self, ops: Ops, p: Parameters) -> Array:
        return softmax(ops, p.logits)

    def kl(self, ops: QuadratureOps, other: Family, p: Parameters, q: Parameters) -> Array:
        return divergences.concrete_kl(ops, p.logits, p.temperature, q.logits, q.temperature)


class ExpRelaxedOneHot(_RelaxedOneHot):
    """The family of the logs of relaxed one-hot samples."""

    noun = "logs of points of the simplex"
    remedy = "Apply log_softmax to unnormalised scores."

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, None]:
        return concrete(ops, p.logits, p.temperature, noise)[0], None

    def log_prob(self, ops: Ops, p: Parameters, value: Array, sample: Any) -> Array:
        return exp_concrete_log_prob(ops, p.logits, p.temperature, value)

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return abs(logsumexp(ops, value)) <= slack

    def entropy(self, ops: Ops, p: Parameters) -> Array:
        return divergences.exp_concrete_entropy(ops, p.logits, p.temperature)

    def mean(self, ops: QuadratureOps, p: Parameters) -> Array:
        return log_moments.exp_concrete_moments(ops, p.logits, p.temperature)[0]

    def variance(self, ops: QuadratureOps, p: Parameters) -> Array:
        return log_moments.exp_concrete_moments(ops, p.logits, p.temperature)[1]

    def mode(self, ops: Ops, p: Parameters) -> Array:
        return ops.log_softmax(p.logits / p.temperature[..., None])


class RelaxedOneHot(_RelaxedOneHot):
    """The family of points of the simplex. A draw also keeps its log, for the density."""

    space = "log_simplex"

    lacks: ClassVar = {"mode": _errors.no_mode}

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, Array]:
        log_value, value = concrete(ops, p.logits, p.temperature, noise)
        return value, log_value

    def log_prob(self, ops: Ops, p: Parameters, value: Array, sample: Any) -> Array:
        log_value = log_of(ops, p, value) if sample is None else sample
        return concrete_log_prob(ops, p.logits, p.temperature, log_value)

    def rounded(self, ops: Ops, p: Parameters, value: Array) -> Array:
        return underflows(ops, p, value)

    def own_log_prob(self, ops: Ops, p: Parameters, sample: Array, value: Array) -> Array:
        """The log density of a value drawn from these very parameters."""
        return own_concrete_log_prob(ops, p.logits, p.temperature, sample, value)

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return on_simplex(value, slack)

    def mean(self, ops: QuadratureOps, p: Parameters) -> Array:
        return quadrature.concrete_moments(ops, p.logits, p.temperature)[0]

    def variance(self, ops: QuadratureOps, p: Parameters) -> Array:
        return quadrature.concrete_moments(ops, p.logits, p.temperature)[1]

    def entropy(self, ops: QuadratureOps, p: Parameters) -> Array:
        return divergences.concrete_entropy(ops, p.logits, p.temperature)


class OneHotStraightThrough(HardValue, RelaxedOneHot):
    """The family of one-hot values with the gradient of a point of the simplex.

    A draw also keeps the log of this point, from which its density is computed.
    """

    needs_sample = True
    scored_as = RelaxedOneHot
    discrete = discrete.OneHot()

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, Array]:
        log_value, value = straight_through_concrete(ops, p.logits, p.temperature, noise)
        return value, log_value
