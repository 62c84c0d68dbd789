"""The discrete families, one-hot and Bernoulli, whose values may come from an estimator.

A family has the formulas of a distribution, for any framework.
"""

import math
from typing import Any, ClassVar

import numpy as np

from relaxed_dists import _errors
from relaxed_dists._distributions import quadrature
from relaxed_dists._distributions.family import Family, Parameters
from relaxed_dists._distributions.formulas import (
    finite_or,
    hard_argmax,
    hot,
    log_p,
    logit,
    softmax,
)
from relaxed_dists._ops import Array, Ops, QuadratureOps


@hot
def hard_sign(ops: Ops, logits: Array, logistic: Array) -> Array:
    """1 where logits + logistic is positive, 0 elsewhere."""
    return ops.where(logits + logistic > 0, 0.0 * logistic + 1.0, 0.0)


@hot
def categorical_log_prob(ops: Ops, logits: Array, value: Array) -> Array:
    """sum_k value_k log p_k; -inf for a NaN, or for weight on a masked category."""
    unmasked, logs = log_p(ops, logits)
    number = value == value  # not NaN
    off = ops.where(value == 0, 0.0 * logs, -math.inf)
    return ops.sum(ops.where(unmasked & number, ops.where(number, value, 0.0) * logs, off))


@hot
def bernoulli_log_prob(ops: Ops, logits: Array, value: Array) -> Array:
    """value log p + (1 - value) log(1 - p); -inf for a NaN, or for weight on a value of mass 0."""
    finite, odds = finite_or(ops, logits)
    number = value == value  # not NaN
    weight = ops.where(number, value, 0.0)
    likely = weight >= 0.5
    # log p - log(1 - p) is the logit, so one softplus is enough: that of the likelier value, whose
    # log probability would cancel in the other's sum with the logit.
    signed = ops.where(likely, odds, -odds)
    rest = ops.where(likely, 1 - weight, weight)
    certain = ops.where(value == ops.where(logits > 0, 1.0, 0.0), 0.0 * odds, -math.inf)
    return ops.where(finite & number, -ops.softplus(-signed) - rest * signed, certain)


def categorical_entropy(ops: Ops, logits: Array) -> Array:
    """The entropy, -sum p log p."""
    unmasked, logs = log_p(ops, logits)
    return -ops.sum(ops.where(unmasked, ops.exp(logs) * logs, 0.0))


@hot
def categorical_kl(ops: Ops, logits: Array, other: Array) -> Array:
    """The KL, sum p (log p - log q); inf if q masks a category that p does not mask."""
    unmasked, logs = log_p(ops, logits)
    q_unmasked, log_q = log_p(ops, other)
    # The infinity is a constant, since exp(log p) * inf would be NaN where exp(log p) underflows.
    terms = ops.where(q_unmasked, ops.exp(logs) * (logs - log_q), math.inf)
    return ops.sum(ops.where(unmasked, terms, 0.0))


def bernoulli_entropy(ops: Ops, logits: Array) -> Array:
    """The entropy, -p log p - (1 - p) log(1 - p)."""
    finite, odds = finite_or(ops, logits)
    terms = ops.sigmoid(odds) * ops.softplus(-odds) + ops.sigmoid(-odds) * ops.softplus(odds)
    return ops.where(finite, terms, 0.0)


@hot
def bernoulli_kl(ops: Ops, logits: Array, other: Array) -> Array:
    """The KL, sum p (log p - log q) over both values; inf if q excludes a value that p does not."""
    finite, odds = finite_or(ops, logits)
    q_finite, q_odds = finite_or(ops, other)
    # With the log odds a of p and b of q, the KL is log p - log q + (1 - p) (b - a). They are those
    # of p's likelier value, since log p would cancel at the other one.
    one = logits > 0
    p_odds, q_odds = ops.where(one, odds, -odds), ops.where(one, q_odds, -q_odds)
    log_q = -ops.softplus(-q_odds)
    terms = -ops.softplus(-p_odds) - log_q + ops.sigmoid(-p_odds) * (q_odds - p_odds)
    possible = ops.where(finite | (one != (other > 0)), math.inf, 0.0 * odds)
    return ops.where(q_finite, ops.where(finite, terms, -log_q), possible)


class OneHot(Family):
    """The family of one-hot vectors; soft values of an estimator are points of the simplex."""

    is_discrete = True
    broadcasts = True
    noise_in_kernel = True
    noun = "one-hot vectors"
    support_name = "OneHot()"
    remedy = _errors.SOFT_VALUES

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, None]:
        return hard_argmax(ops, p.logits, noise), None

    def log_prob(self, ops: Ops, p: Parameters, value: Array, sample: Any = None) -> Array:
        return categorical_log_prob(ops, p.logits, value)

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        fine = (value >= 0) & (value <= 1) if soft else (value == 0) | (value == 1)
        return fine.all(-1) & (abs(value.sum(-1) - 1) <= slack)

    def enumerate_support(self, categories: int) -> Any:
        """All values, as a NumPy array."""
        return np.eye(categories)

    def feasible(self, event_shape: Any) -> Any:
        return self.enumerate_support(*event_shape)[0]

    def probs(self, ops: Ops, p: Parameters) -> Array:
        return softmax(ops, p.logits)

    def mean(self, ops: QuadratureOps, p: Parameters) -> Array:
        if p.temperature is None:
            return self.probs(ops, p)
        return quadrature.concrete_moments(ops, p.logits, p.temperature)[0]

    def variance(self, ops: QuadratureOps, p: Parameters) -> Array:
        if p.temperature is None:
            probs = self.probs(ops, p)
            return probs * (1 - probs)
        return quadrature.concrete_moments(ops, p.logits, p.temperature)[1]

    def mode(self, ops: Ops, p: Parameters) -> Array:
        return hard_argmax(ops, p.logits)

    def entropy(self, ops: Ops, p: Parameters) -> Array:
        return categorical_entropy(ops, p.logits)

    def kl(self, ops: Ops, other: Family, p: Parameters, q: Parameters) -> Array:
        return categorical_kl(ops, p.logits, q.logits)


class Bernoulli(OneHot):
    """The family of the values 0 and 1; soft values of an estimator are numbers from 0 to 1."""

    event_dim = 0
    counts = True
    noun = "zeros and ones"
    support_name = "Boolean()"

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, None]:
        return hard_sign(ops, p.logits, noise), None

    def log_prob(self, ops: Ops, p: Parameters, value: Array, sample: Any = None) -> Array:
        return bernoulli_log_prob(ops, p.logits, value)

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return (value >= 0) & (value <= 1) if soft else (value == 0) | (value == 1)

    def enumerate_support(self, categories: int = 2) -> Any:
        return np.arange(2.0)

    def probs(self, ops: Ops, p: Parameters) -> Array:
        return ops.sigmoid(p.logits)

    def mean(self, ops: QuadratureOps, p: Parameters) -> Array:
        if p.temperature is None:
            return self.probs(ops, p)
        return quadrature.binary_concrete_moments(ops, p.logits, p.temperature)[0]

    def variance(self, ops: QuadratureOps, p: Parameters) -> Array:
        if p.temperature is None:
            return super().variance(ops, p)
        return quadrature.binary_concrete_moments(ops, p.logits, p.temperature)[1]

    def mode(self, ops: Ops, p: Parameters) -> Array:
        return ops.where(p.logits > 0, 1.0, 0.0)

    def entropy(self, ops: Ops, p: Parameters) -> Array:
        return bernoulli_entropy(ops, p.logits)

    def kl(self, ops: Ops, other: Family, p: Parameters, q: Parameters) -> Array:
        return bernoulli_kl(ops, p.logits, q.logits)


# The classes below are the discrete counterparts of families in log space and in logit space.


def no_moments(name: str) -> NotImplementedError:
    """The error about the mean or the variance of infinite values."""
    return NotImplementedError(
        f"{name} has no mean and no variance, since its values are infinite; expected a "
        "distribution of finite ones. Use the discrete distribution of the site that the model "
        "computes from it."
    )


class LogOneHot(OneHot):
    """The family of the logs of one-hot vectors: 0 at one category, -inf at the other ones."""

    noun = "logs of one-hot vectors"
    support_name = "LogOneHot()"
    lacks: ClassVar = {"mean": no_moments, "variance": no_moments}

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, None]:
        return ops.log(super().draw(ops, p, noise)[0]), None

    def log_prob(self, ops: Ops, p: Parameters, value: Array, sample: Any = None) -> Array:
        return super().log_prob(ops, p, ops.exp(value))

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return super().valid(ops, ops.exp(value), slack)

    def enumerate_support(self, categories: int) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(super().enumerate_support(categories))

    def mode(self, ops: Ops, p: Parameters) -> Array:
        return ops.log(super().mode(ops, p))


class LogitBernoulli(Bernoulli):
    """The family of the logits of 0 and 1, which are minus and plus infinity."""

    counts = False
    noun = "infinite numbers"
    support_name = "LogitBoolean()"
    lacks: ClassVar = {"mean": no_moments, "variance": no_moments}

    def draw(self, ops: Ops, p: Parameters, noise: Array) -> tuple[Array, None]:
        return logit(ops, super().draw(ops, p, noise)[0]), None

    def log_prob(self, ops: Ops, p: Parameters, value: Array, sample: Any = None) -> Array:
        return super().log_prob(ops, p, ops.sigmoid(value))

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return super().valid(ops, ops.sigmoid(value), slack)

    def enumerate_support(self, categories: int = 2) -> Any:
        return np.array([-np.inf, np.inf])

    def mode(self, ops: Ops, p: Parameters) -> Array:
        return logit(ops, super().mode(ops, p))
