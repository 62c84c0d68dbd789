r"""Mean and variance of a relaxed sample in log space, by quadrature.

The sample is ``y = a + r G - L`` with ``L = logsumexp(a + r G)``, where a is logits / temperature,
r is 1 / temperature and G is standard Gumbel noise. With more Gumbel noise H_k, the largest X of
``a_k + H_k + r G_k`` is ``L + H``, where H is a standard Gumbel variable that is independent of G.
With gamma Euler's constant, it follows that

    E y_k   = a_k + r gamma - (E X - gamma)
    Var y_k = Var X - pi^2 / 6 + r^2 pi^2 / 6 - 2 r Cov(G_k, X).

Let ``V_k = H_k + r G_k``. If category k nearly always has the largest ``a_k + V_k``, the terms of
Var y_k are nearly those with V_k in place of X, whose sum cancels to 0. So the integrals compute
only differences between the terms with X and with V_k. With ``m(u) = E (G - gamma) [V < u]``, where
[V < u] is 1 if V < u and else 0, and with P_k the product of the other categories' cdfs,

    Cov(G_k, X) - Cov(G_k, V_k) = int m(t - a_k) (1 - P_k(t)) dt.
"""

import functools
import math
from typing import Any

import numpy as np

from relaxed_dists._distributions.formulas import EULER, count, finite_or, hot
from relaxed_dists._distributions.quadrature import _centred, _excess
from relaxed_dists._distributions.tables import DOUBLE, SINGLE, Rule, tabulate
from relaxed_dists._ops import Array, QuadratureOps

THIRD = 2.4041138063191885  # the third central moment of a Gumbel variable, 2 zeta(3)
NEAR = -1.0  # only if a_k - max a is above NEAR, k may nearly always have the largest a_k + V_k
VARIANCE = math.pi**2 / 6  # the variance of a Gumbel variable


@functools.cache
def _running(rule: Rule) -> tuple[Any, Any, Any]:
    """Arrays that integrate a function given at the points of a table's intervals.

    The first array gives the integral over an interval up to each of its points, the second one
    over the full interval. The third sums the integrals of all intervals before each interval.
    """
    order, intervals = len(rule.to_powers), len(rule.points)
    place = np.linalg.inv(rule.to_powers)[:, 1]
    power = np.arange(1, order + 1)

    def from_left(to: Any) -> Any:
        return (to[:, None] ** power - (-0.5) ** power) / power @ rule.to_powers * rule.interval

    return from_left(place).T, from_left(np.array([0.5]))[0], np.tri(intervals, k=-1).T


def _part(ops: QuadratureOps, rule: Rule, narrow: Array, high: Array) -> Array:
    """A table of E (G - gamma) [V < u] with V = H + narrow G if high, and else G + narrow H.

    ``high`` is true at temperatures above 1. The function's derivative is integrated from the
    nearer end of the table, since the function tends to 0 at both ends.
    """
    points = ops.constant(rule.points, narrow) + 0 * narrow[..., None, None]
    narrow, high = narrow[..., None, None], high[..., None, None]

    def terms(gumbel: Array) -> list[Array]:
        wide = points - narrow * gumbel
        x = ops.exp(ops.clip(-wide, -80.0, 40.0))
        return [(ops.where(high, gumbel, wide) - EULER) * x * ops.exp(-x)]

    (slope,) = ops.integrate(terms, rule.gumbel, rule.weights, points)
    inside, whole, before = (ops.constant(x, narrow) for x in _running(rule))
    totals = ops.sum(slope * whole)
    up = ops.dot(slope, inside)
    below = ops.dot(totals, before)[..., None] + up
    above = up - totals[..., None] - ops.dot(totals, before.T)[..., None]
    part = ops.where(points < 0.5, below, above) * ops.constant(rule.not_last, narrow)
    powers = ops.constant(rule.to_powers, narrow)
    powers = powers.reshape(powers.shape[:1] + (1,) * (narrow.ndim - 1) + powers.shape[1:])
    return ops.sum(powers * part[None])


def _at_high_temperature(ops: QuadratureOps, a: Array, r: Array) -> Array:
    """The variance to third order in r = 1 / temperature.

    It is used at high temperatures, where the integrals would lose digits. With p = softmax(a), y_k
    is nearly a constant plus r sum_j ([j = k] - p_j) G_j minus r^2 / 2 times the variance of G
    under p. The relative error of the result is of the order of r^2.
    """
    p = ops.exp(ops.log_softmax(a))
    second = 1 - 2 * p + ops.sum(p * p)[..., None]
    third = p * (1 - p) - ops.sum(p * p * (1 - p))[..., None]
    return r * r * (VARIANCE * second - THIRD * r * third)


@hot
def exp_concrete_moments(
    ops: QuadratureOps, logits: Array, temperature: Array
) -> tuple[Array, Array]:
    """Mean and variance of log_softmax((logits + G) / temperature), G standard Gumbel noise."""
    rule, high = DOUBLE if ops.is_double(logits) else SINGLE, temperature > 1
    scale = ops.where(high, temperature, 1.0)
    narrow = ops.where(high, 1 / scale, temperature)
    unit = ops.where(high, 1.0, temperature)[..., None]  # the integrals are moments of unit * y
    # The factor of G in V, which is H + narrow G if high, and else G + narrow H.
    of_g = ops.where(high, narrow, 1.0)[..., None]
    _, offsets = _centred(ops, logits, scale)
    excess = _excess(ops, offsets, narrow, narrow < 0)
    (log_f, *_), part = tabulate(ops, rule, narrow, narrow < 0), _part(ops, rule, narrow, high)
    near = offsets > NEAR

    def terms(t: Array) -> list[Array]:
        position = t + 0 * narrow[..., None]
        alone = ops.interpolate([log_f], position)[0][..., 0]
        logs, share = ops.interpolate([log_f, part], t - offsets / rule.interval)
        log_p = ops.sum(logs)
        x = rule.low + rule.interval * position[..., 0] - EULER * (1 + narrow)
        others = log_p[..., None] - logs
        share = share * ops.where(near, -ops.expm1(others), -ops.exp(others))
        return [-2 * x * ops.exp(alone) * ops.expm1(log_p - alone), share]

    square, covariance = ops.integrate(terms, rule.outer, rule.steps, offsets)
    covariance = covariance - ops.where(near, 0.0, VARIANCE * of_g)
    variance = (square - excess * excess)[..., None] - 2 * of_g * covariance
    very_high = (temperature > (2000.0 if ops.is_double(logits) else 32.0))[..., None]
    variance = ops.where(very_high, _at_high_temperature(ops, offsets, narrow[..., None]), variance)
    unmasked, _ = finite_or(ops, logits)
    several = (count(ops, unmasked, logits) > 1)[..., None]  # one category has mean and variance 0
    mean = ops.where(several, (offsets - excess[..., None]) / unit, 0.0)
    variance = ops.where(several, ops.clip(variance / unit**2, 0.0, math.inf), 0.0)
    return ops.where(unmasked, mean, -math.inf), ops.where(unmasked, variance, 0.0)
