r"""Expectations of a relaxed sample, exact to rounding, by quadrature in one variable.

Let G and H be independent standard Gumbel noise, and gamma Euler's constant. Given G,
``softmax(a + r G)_k`` is the probability that ``a_k + H_k + r G_k`` is the largest over k. So every
expectation here follows from ``V = H + r G``. With F the cdf and f the density of V, and with P(t)
the product of F(t - a_k) over k, which is the cdf of the largest ``a_k + V_k``,

    E logsumexp(a + r G)     = E max(a_k + V_k) - gamma,   E max = int t dP(t)
    E softmax(a + r G)_k     = int f(t - a_k) / F(t - a_k) P(t) dt
    E softmax(a + r G)_k^2   = int (f + f')(t - a_k) / F(t - a_k) P(t) dt.

Everything is divided by max(1, abs(r)). A category's offset is then its a_k minus the largest one.
One of the two Gumbel variables has scale 1, and smooths the other variable, whose scale ``narrow``
is at most 1, so that few nodes suffice at every temperature. At each temperature log F is a
function of one variable, which each call tabulates once, as polynomials on intervals.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from relaxed_dists._distributions.formulas import EULER, LOWEST, finite_or, hot
from relaxed_dists._ops import Array, QuadratureOps


def nodes(number: int, low: float, high: float) -> tuple[Any, Any]:
    """Points from low to high, finely spaced near 0 and coarsely in the tails, and their weights.

    The integrands are analytic and vanish at both ends. So with t = 2 sinh u and evenly spaced u,
    the sum converges exponentially.
    """
    u = np.linspace(np.arcsinh(low / 2), np.arcsinh(high / 2), number)
    return 2 * np.sinh(u), 2 * np.cosh(u) * (u[1] - u[0])


class _Rule:
    """The quadrature nodes for one precision: errors are below 1e-10, or below float32's rounding.

    With a thousand categories and r from -50 to -5, errors are below 1e-7 in float64, and below
    1e-4 in float32.

    Args:
        inner: The number of quantiles of a Gumbel variable over which the cdf is averaged.
        outer: The number of points of the integrals over t.
        low: The first point of the integrals, and of the tables.
        high: The last point of the integrals.
        end: The last point of the tables, beyond which even K (1 - F) is below rounding.
        interval: The width of the tables' intervals.
        order: The number of a polynomial's coefficients.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        low: float,
        high: float,
        end: float,
        interval: float,
        order: int,
    ) -> None:
        # A tanh-sinh rule in p = sigmoid(pi sinh u), the cdf of the Gumbel variable.
        u = np.linspace(-3.1, 3.1, inner)
        s = np.pi * np.sinh(u)
        weights = np.cosh(u) / np.cosh(s / 2) ** 2
        self.gumbel, self.weights = -np.log(np.logaddexp(0, -s)), weights / weights.sum()
        t, self.steps = nodes(outer, low, high)
        self.low = low
        # Positions in the tables: the nearest integer is an interval's index, the rest the place in
        # this interval.
        self.outer, self.interval = (t - low) / interval, interval
        local = np.cos(np.pi * (np.arange(order) + 0.5) / order) / 2
        self.to_powers = np.linalg.inv(np.vander(local, increasing=True))
        centres = low + interval * np.arange(round((end - low) / interval))
        self.points = centres[:, None] + interval * local
        self.not_last = (centres < centres[-1]).astype(float)[:, None]


class _LowRank(_Rule):
    """A rule with Chebyshev polynomials of the offsets, for a table that a whole batch shares.

    Args:
        reach: Below the offset -reach, log F divided by exp(offset) no longer changes.
        terms: The number of polynomials on (-reach, 0).
        rule: The arguments of _Rule except ``end``, which follows from ``high`` and ``reach``.
    """

    def __init__(self, reach: float, terms: int, **rule: Any) -> None:
        super().__init__(**rule, end=rule["high"] + reach + 1)
        self.reach, self.terms = reach, terms
        angles = np.pi * (np.arange(terms) + 0.5) / terms
        offsets = (np.cos(angles) - 1) * reach / 2
        self.pairs = self.outer[:, None] - np.append(offsets, 0.0) / self.interval
        fit = np.cos(angles[:, None] * np.arange(terms)) * np.exp(-offsets)[:, None]
        self.to_chebyshev = fit * np.where(np.arange(terms) > 0, 2, 1) / terms


_DOUBLE = _Rule(inner=80, outer=140, low=-36.5, high=36.5, end=40.0, interval=0.5, order=12)
_SINGLE = _Rule(inner=40, outer=60, low=-18.0, high=24.0, end=25.0, interval=0.25, order=5)
# A coarser rule, for a value and its gradient at each training step: relative errors are 1e-7.
_QUICK = _Rule(inner=40, outer=50, low=-18.0, high=24.0, end=25.0, interval=0.25, order=4)
_SHARED_DOUBLE = _LowRank(
    reach=28.0, terms=192, inner=80, outer=140, low=-36.5, high=36.5, interval=0.5, order=12
)
_SHARED = _LowRank(
    reach=16.0, terms=64, inner=40, outer=50, low=-18.0, high=24.0, interval=0.25, order=4
)


def _tables(ops: QuadratureOps, rule: _Rule, narrow: Array, flipped: Array) -> list[Array]:
    """Tables ``(order, *narrow.shape, intervals)`` of four functions, as polynomials on intervals.

    The functions are log F, f / F, f' / F and (dF / dnarrow) / F. Each function has its own table,
    since the derivative of a polynomial in float32 loses digits. V is ``H + narrow G``, or
    ``-G + narrow H`` where flipped. The cdf of a flipped V at t is 1 minus the cdf of
    ``G - narrow H`` at -t.
    """
    points = ops.constant(rule.points, narrow)
    narrow, flipped = narrow[..., None, None], flipped[..., None, None]
    at, scale = ops.where(flipped, -points, points), ops.where(flipped, -narrow, narrow)

    def terms(gumbel: Array) -> list[Array]:
        x = ops.exp(ops.clip(scale * gumbel - at, -80.0, 40.0))
        below = ops.exp(-x)
        f = x * below
        return [below, -ops.expm1(-x), f, (x - 1) * f, gumbel * f]

    low, high, f, slope, shift = ops.integrate(terms, rule.gumbel, rule.weights, at)
    below, above = ops.where(flipped, high, low), ops.where(flipped, low, high)
    below = ops.clip(below, 1e-18, 1.0)  # so 1 / below^2 can't overflow; P is 0 at any smaller F
    # log F is summed over K categories. Near F = 1, log F has a small relative error only if it is
    # computed from 1 - F.
    log_f = ops.where(above < 0.5, ops.log1p(-ops.clip(above, 0.0, 0.5)), ops.log(below))
    powers = ops.constant(rule.to_powers, narrow)
    powers = powers.reshape(powers.shape[:1] + (1,) * (narrow.ndim - 1) + powers.shape[1:])
    slope = ops.where(flipped, -slope, slope)
    # The tables are 0 on the last interval, which ``interpolate`` uses for positions beyond them.
    shares = ops.constant(rule.not_last, narrow) / below
    functions = (log_f * below, f, slope, -shift)
    return [ops.sum(powers * (y * shares)[None]) for y in functions]


def _excess(ops: QuadratureOps, offsets: Array, narrow: Array, flipped: Array) -> Array:
    """E max_k (offsets_k + V_k) - E V. The largest offset is 0; a masked offset is LOWEST."""
    way = functools.partial(_excess_by_rows if narrow.ndim else _excess_at_one_ratio, ops)
    return ops.with_gradient(way, offsets, narrow, flipped)


def _excess_by_rows(
    ops: QuadratureOps, wanted: Sequence[bool], offsets: Array, narrow: Array, flipped: Array
) -> list[Array | None]:
    """The result of _excess and its gradients, from a table for each event of a batch."""
    rule = _DOUBLE if ops.is_double(offsets) else _QUICK
    log_f, score, _, by_narrow = _tables(ops, rule, narrow, flipped)
    tables = [log_f] + [score] * wanted[0] + [by_narrow] * wanted[1]

    def terms(t: Array) -> list[Array]:
        # The integrand is F - P. P is the cdf of the maximum, and F that of the category with the
        # offset 0 alone, whose mean is E V. For a single category F - P is exactly 0.
        (alone,) = ops.interpolate([log_f], t + 0 * narrow[..., None])
        alone = alone[..., 0]
        logs, *others = ops.interpolate(tables, t - offsets / rule.interval)
        log_p = ops.sum(logs)
        p, values = ops.exp(log_p), [-ops.exp(alone) * ops.expm1(log_p - alone)]
        if wanted[0]:
            values.append(others[0] * p[..., None])
        if wanted[1]:
            values.append(-p * ops.sum(others[-1]))
        return values

    value, *rest = ops.integrate(terms, rule.outer, rule.steps, offsets)
    choice = rest[0] if wanted[0] else None
    return [value, choice, rest[-1] - EULER if wanted[1] else None, None]


def _excess_at_one_ratio(
    ops: QuadratureOps, wanted: Sequence[bool], offsets: Array, narrow: Array, flipped: Array
) -> list[Array | None]:
    """The result of _excess and its gradients where a batch has a single ``narrow``.

    No work is done for each pair of node and category, since the matrix log F(t_j - a) of nodes and
    offsets has a low rank: log F(t_j - a) = exp(a) sum_m C_jm T_m(x), with T_m the Chebyshev
    polynomials and x = 1 + 2 max(a, -reach) / reach. The factor exp(a) keeps the digits of small
    terms; below -reach the sum over m is constant, or the product with exp(a) is negligible. So
    log P(t_j) = C (sum_k exp(a_k) T(x_k)), and an integral over t is a polynomial in x_k.
    """
    rule = _SHARED_DOUBLE if ops.is_double(offsets) else _SHARED
    tables = _tables(ops, rule, narrow, flipped)
    functions = ops.interpolate([tables[0], tables[1], tables[3]], ops.constant(rule.pairs, narrow))
    fit = ops.constant(rule.to_chebyshev, narrow)
    log_f, score, by_narrow = (ops.dot(y[:, :-1], fit) for y in functions)
    # exp(a) T_m(x) is computed by the recurrence of T_m, and summed over the categories.
    columns = ops.columns(offsets)
    x, weight = 1 + 2 / rule.reach * ops.clip(columns, -rule.reach, 1.0), ops.exp(columns)

    def up(last: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], Array]:
        before, now = last
        return (now, 2 * x * now - before), ops.total(now)[0]

    _, sums = ops.scan(up, (weight * x, weight), None, rule.terms)
    # Next are F and P / F at each node. F is the cdf of the category with the offset 0 (x = 1)
    # alone, whose mean is E V; the term of this category in each of the sums is 1.
    alone = functions[0][:, -1]  # log F; if it is below -reach, P is 0 to rounding
    share = ops.where(alone > -rule.reach, ops.exp(alone) * ops.constant(rule.steps, narrow), 0.0)
    change = ops.clip(ops.dot(log_f, sums - 1), -math.inf, 0.0)
    ratio = ops.exp(change)
    value: list[Array] = [-ops.dot(share, ops.expm1(change)).reshape(offsets.shape[:-1])]
    gradients: list[Array | None] = [None, None]
    if wanted[0]:
        coefficients = ops.dot((share[:, None] * score).T, ratio)

        # Clenshaw's recurrence sums a series of Chebyshev polynomials.
        def down(last: tuple[Array, ...], c: Array) -> tuple[tuple[Array, ...], None]:
            now, after = last
            return (2 * x * now - after + c, now), None

        (now, after), _ = ops.scan(down, (0 * x, 0 * x), coefficients, rule.terms)
        gradients[0] = ops.rows(weight * (now - x * after), offsets)
    if wanted[1]:
        by = -ops.dot(share, ratio * ops.dot(by_narrow, sums)) - EULER
        gradients[1] = by.reshape(offsets.shape[:-1])
    return [*value, *gradients, None]


def _centred(ops: QuadratureOps, a: Array, scale: Array) -> tuple[Array, Array]:
    """The largest of a / scale, and a / scale minus this largest; LOWEST where masked."""
    unmasked = a > -math.inf
    a = ops.where(unmasked, a, 0.0) / scale[..., None]  # -inf would make the scale's gradient NaN
    largest = ops.stop_gradient(ops.max(ops.where(unmasked, a, LOWEST)))
    return largest, ops.where(unmasked, a - largest[..., None], LOWEST)


def expected_logsumexp(ops: QuadratureOps, a: Array, r: Array) -> Array:
    """E logsumexp(a + r G), with G standard Gumbel noise; r is positive or negative."""
    # The scale is not max(1, abs(r)), whose gradient at abs(r) = 1 would be wrong: the frameworks
    # average the gradients of 1 and abs(r) there.
    wide = abs(r) > 1
    scale = ops.where(wide, abs(r), 1.0)
    largest, offsets = _centred(ops, a, scale)
    excess = _excess(ops, offsets, ops.where(wide, 1 / scale, r), r < -1)
    return scale * (largest + excess) + EULER * r


def moment_places(
    ops: QuadratureOps, logits: Array, temperature: Array
) -> tuple[_Rule, Array, Array]:
    """The rule for moments, the scale ``narrow`` of each event, and the categories' offsets."""
    rule, above_one = _DOUBLE if ops.is_double(logits) else _SINGLE, temperature > 1
    scale = ops.where(above_one, temperature, 1.0)
    return rule, ops.where(above_one, 1 / scale, temperature), _centred(ops, logits, scale)[1]


def moment_functions(
    ops: QuadratureOps, rule: _Rule, narrow: Array
) -> Callable[[Array, Array], list[Array]]:
    """A function from a node t and the offsets to log F, f / F and f' / F at t - offsets."""
    tables = _tables(ops, rule, narrow, narrow < 0)[:3]
    return lambda t, offsets: ops.interpolate(tables, t - offsets / rule.interval)


def moment_terms(ops: QuadratureOps, log_f: Array, score: Array, slope: Array) -> list[Array]:
    """The integrands of the mean, and of the second moment minus the mean."""
    p = ops.exp(ops.sum(log_f))[..., None]
    return [score * p, slope * p]


def moments_from(
    ops: QuadratureOps, temperature: Array, mean: Array, rest: Array
) -> tuple[Array, Array]:
    """The mean and the variance, from the integrals of ``moment_terms``."""
    mean = mean / ops.sum(mean)[..., None]  # so a single category has exactly 1
    second = mean + ops.where(temperature > 1, 1.0, temperature)[..., None] * rest
    return mean, ops.clip(second - mean * mean, 0.0, 1.0)


@hot
def concrete_moments(ops: QuadratureOps, logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Mean and variance of softmax((logits + G) / temperature), with G standard Gumbel noise."""
    rule, narrow, offsets = moment_places(ops, logits, temperature)
    functions = moment_functions(ops, rule, narrow)

    def terms(t: Array) -> list[Array]:
        return moment_terms(ops, *functions(t, offsets))

    integrals = ops.integrate(terms, rule.outer, rule.steps, offsets)
    return moments_from(ops, temperature, *integrals)


@hot
def binary_concrete_moments(
    ops: QuadratureOps, logits: Array, temperature: Array
) -> tuple[Array, Array]:
    """Mean and variance of sigmoid((logits + L) / temperature), with L standard logistic noise.

    They are computed as those of the first of two categories.
    """
    finite, theta = finite_or(ops, logits)
    mean, variance = concrete_moments(ops, ops.stack(theta, 0.0 * theta), temperature)
    edge = ops.where(logits > 0, 0.0 * mean[..., 0] + 1.0, 0.0)
    return ops.where(finite, mean[..., 0], edge), ops.where(finite, variance[..., 0], 0.0)
