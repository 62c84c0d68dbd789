"""The relaxed Bernoulli families: logits, numbers in (0, 1), and straight-through values.

A family has the formulas of a distribution, for any framework. In the formulas t is the
temperature. An infinite logit makes the distribution a point mass. A draw may keep a sample behind
its value: an array from which the density is computed without the value's rounding. See Maddison et
al. (2017), appendix B.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

from relaxed_dists import _errors
from relaxed_dists._distributions import discrete, divergences, quadrature
from relaxed_dists._distributions.family import Family, HardValue, Parameters
from relaxed_dists._distributions.formulas import (
    HUGE,
    LOWEST,
    end,
    finite_or,
    hot,
    logit,
    straight_through,
)
from relaxed_dists._ops import Array, Ops, QuadratureOps


@hot
def logit_concrete(ops: Ops, logits: Array, temperature: Array, logistic: Array) -> Array:
    """The logit (logits + logistic) / temperature of a relaxed value, from logistic noise."""
    finite, theta = finite_or(ops, logits)
    return ops.where(finite, (theta + logistic) / temperature, end(ops, logits))


@hot
def binary_concrete(
    ops: Ops, logits: Array, temperature: Array, logistic: Array
) -> tuple[Array, Array]:
    """The logit of ``logit_concrete``, and the value, its sigmoid."""
    y = logit_concrete(ops, logits, temperature, logistic)
    return y, ops.sigmoid(y)


@hot
def straight_through_binary_concrete(
    ops: Ops, logits: Array, temperature: Array, logistic: Array
) -> tuple[Array, Array]:
    """The logit of ``logit_concrete``, and 0 or 1 with the gradient of the logit's sigmoid."""
    y, value = binary_concrete(ops, logits, temperature, logistic)
    return y, straight_through(ops, ops.where(y > 0, 1.0, 0.0), value)


@hot
def binary_concrete_value(
    ops: Ops, logits: Array, temperature: Any, logistic: Array, hard: bool
) -> Array:
    """The sigmoid of (logits + logistic) / temperature; if hard, rounded, with its gradient."""
    y = logit_concrete(ops, logits, temperature, logistic)
    # ops.sigmoid is not used: its gradient p (1 - p) is rounded to 0 where p is near 1.
    value = ops.exp(-ops.softplus(-y))
    if not hard:
        return value
    return straight_through(ops, discrete.hard_sign(ops, logits, logistic), value)


def _logit_space(ops: Ops, logits: Array, temperature: Array, y: Array) -> Array:
    """The log density of the logit y: log t + d - 2 softplus(d), with d = logits - t y."""
    d = logits - temperature * y
    return ops.log(temperature) + d - 2 * ops.softplus(d)


def _unit(ops: Ops, logits: Array, temperature: Array, y: Array) -> Array:
    """The log density of x = sigmoid(y): that of y plus 2 softplus(y) - y = -log(x (1 - x))."""
    return _logit_space(ops, logits, temperature, y) + (2 * ops.softplus(y) - y)


def _masked(
    ops: Ops, density: Callable[..., Array], logits: Array, temperature: Array, y: Array
) -> Array:
    """The log density; for a point mass (an infinite logit) 0 at the point, and -inf elsewhere."""
    finite, theta = finite_or(ops, logits)
    on = ops.where(finite, abs(y) < math.inf, y == end(ops, logits))
    y = ops.where(finite & on, ops.clip(y, LOWEST, -LOWEST), 0.0)
    return ops.where(on, ops.where(finite, density(ops, theta, temperature, y), 0.0), -math.inf)


@hot
def logit_concrete_log_prob(
    ops: Ops, logits: Array, temperature: Array, logit_value: Array
) -> Array:
    """The log density of a logit: log t + d - 2 softplus(d), with d = logits - t logit_value."""
    return _masked(ops, _logit_space, logits, temperature, logit_value)


@hot
def binary_concrete_log_prob(
    ops: Ops, logits: Array, temperature: Array, logit_value: Array
) -> Array:
    """The log density on (0, 1), from the logit of the value."""
    return _masked(ops, _unit, logits, temperature, logit_value)


def logit_concrete_cdf(ops: Ops, logits: Array, temperature: Array, logit_value: Array) -> Array:
    """The cdf, sigmoid(t logit_value - logits), accurate also if small; a step for a point mass."""
    finite, theta = finite_or(ops, logits)
    inside = ops.exp(-ops.softplus(theta - temperature * ops.where(finite, logit_value, 0.0)))
    step = ops.where(logit_value >= logits, 0.0 * inside + 1.0, 0.0)
    return ops.where(finite, inside, step)


def logit_of(ops: Ops, p: Parameters, value: Array) -> Array:
    """The logit of the value clamped inside (0, 1); infinite at 0 or 1 for a point mass."""
    inside = ops.clip(value, p.tiny, 1 - p.eps / 2)
    finite = ops.log(inside) - ops.log1p(-inside)
    between = (value > 0) & (value < 1)
    return ops.where(between | (abs(p.logits) < HUGE), finite, end(ops, value))


def at_an_end(ops: Ops, p: Parameters, value: Array) -> Array:
    """Whether a value was rounded to 0 or 1; False if the distribution is a point mass."""
    return ((value < p.tiny) | (value == 1)) & (abs(p.logits) < HUGE)


class _RelaxedBernoulli(Family):
    event_dim = 0
    noise_in_kernel = True

    def kl(self, ops: QuadratureOps, other: Family, p: Parameters, q: Parameters) -> Array:
        return divergences.logit_concrete_kl(ops, p.logits, p.temperature, q.logits, q.temperature)


class LogitRelaxedBernoulli(_RelaxedBernoulli):
    """The family of the logits of relaxed Bernoulli samples."""

    noun = "real numbers"
    remedy = "Look for an overflow."

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, None]:
        return logit_concrete(ops, p.logits, p.temperature, noise), None

    def log_prob(self, ops: Ops, p: Parameters, value: Array, sample: Any) -> Array:
        return logit_concrete_log_prob(ops, p.logits, p.temperature, value)

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return value == value  # not NaN

    def cdf(self, ops: Ops, p: Parameters, value: Array, sample: Any) -> Array:
        return logit_concrete_cdf(ops, p.logits, p.temperature, value)

    def icdf(self, ops: Ops, p: Parameters, q: Array) -> tuple[Array, None]:
        return logit_concrete(ops, p.logits, p.temperature, logit(ops, q)), None

    def mean(self, ops: Ops, p: Parameters) -> Array:
        return p.logits / p.temperature

    mode = mean

    def variance(self, ops: Ops, p: Parameters) -> Array:
        """The variance of a logistic variable divided by t; 0 for a point mass."""
        finite, theta = finite_or(ops, p.logits)
        return ops.where(finite, math.pi**2 / 3 / p.temperature**2 + 0.0 * theta, 0.0)

    def entropy(self, ops: Ops, p: Parameters) -> Array:
        """The entropy of a logistic variable divided by t; 0 for a point mass."""
        finite, theta = finite_or(ops, p.logits)
        return ops.where(finite, 2.0 - ops.log(p.temperature) + 0.0 * theta, 0.0)


class RelaxedBernoulli(_RelaxedBernoulli):
    """The family of numbers in (0, 1). A draw also keeps its logit, for the density."""

    space = "logit"
    noun = "numbers from 0 to 1"
    remedy = "Apply sigmoid to logits."
    lacks: ClassVar = {"mode": _errors.no_mode}

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, Array]:
        y, value = binary_concrete(ops, p.logits, p.temperature, noise)
        return value, y

    def log_prob(self, ops: Ops, p: Parameters, value: Array, sample: Any) -> Array:
        y = logit_of(ops, p, value) if sample is None else sample
        return binary_concrete_log_prob(ops, p.logits, p.temperature, y)

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return (value >= 0) & (value <= 1)

    def cdf(self, ops: Ops, p: Parameters, value: Array, sample: Any) -> Array:
        y = logit(ops, value) if sample is None else sample
        return logit_concrete_cdf(ops, p.logits, p.temperature, y)

    def icdf(self, ops: Ops, p: Parameters, q: Array) -> tuple[Array, Array]:
        y, value = binary_concrete(ops, p.logits, p.temperature, logit(ops, q))
        return value, y

    def rounded(self, ops: Ops, p: Parameters, value: Array) -> Array:
        return at_an_end(ops, p, value)

    def mean(self, ops: QuadratureOps, p: Parameters) -> Array:
        return quadrature.binary_concrete_moments(ops, p.logits, p.temperature)[0]

    def variance(self, ops: QuadratureOps, p: Parameters) -> Array:
        return quadrature.binary_concrete_moments(ops, p.logits, p.temperature)[1]

    def entropy(self, ops: QuadratureOps, p: Parameters) -> Array:
        return divergences.binary_concrete_entropy(ops, p.logits, p.temperature)


class BernoulliStraightThrough(HardValue, RelaxedBernoulli):
    """The family of values 0 and 1 with the gradient of a number in (0, 1).

    A draw also keeps the logit of this number, from which its density is computed.
    """

    needs_sample = True
    scored_as = RelaxedBernoulli
    discrete = discrete.Bernoulli()
    lacks: ClassVar = {"cdf": _errors.no_cdf, "icdf": _errors.no_cdf}

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, Array]:
        y, value = straight_through_binary_concrete(ops, p.logits, p.temperature, noise)
        return value, y
