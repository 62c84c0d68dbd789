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

A large batch is computed in chunks of rows: see ``rows_of_chunk``.
"""

import functools
import math
from collections.abc import Sequence

from relaxed_dists._distributions import low_rank
from relaxed_dists._distributions.formulas import EULER, LOWEST, finite_or, hot
from relaxed_dists._distributions.tables import DOUBLE, QUICK, SINGLE, tabulate
from relaxed_dists._ops import Array, QuadratureOps

CHUNK = 2**16  # elements of a chunk: with float32, its arrays fit into a processor's cache
TABLE = 2000  # elements that a row counts for, at least, if it has a table: a table has fewer
SUMS = 64  # elements that a row counts for, at least, if all rows share one table
MANY = 2**11  # a row of so many categories is a chunk: this saves more time than its table takes


def rows_of_chunk(rows: int, k: int, shared: bool) -> int:
    """How many rows of k categories to integrate over at once.

    A chunk has at most CHUNK elements, or is one row. The integrals hold at most 20 arrays of its
    size. A chunk of one row has a single temperature, for which the integrals are faster.

    Args:
        rows: The number of rows.
        k: The number of categories.
        shared: Whether all rows are known to have one temperature.
    """
    if k >= MANY and not shared:
        return 1
    return min(rows, max(CHUNK // max(k, SUMS if shared else TABLE), 1))


def _excess(ops: QuadratureOps, offsets: Array, narrow: Array, flipped: Array) -> Array:
    """E max_k (offsets_k + V_k) - E V. The largest offset is 0; a masked offset is LOWEST."""
    way = functools.partial(_excess_by_rows if narrow.ndim else low_rank.excess, ops)
    return ops.with_gradient(way, offsets, narrow, flipped)


def _excess_by_rows(
    ops: QuadratureOps, wanted: Sequence[bool], offsets: Array, narrow: Array, flipped: Array
) -> list[Array | None]:
    """The result of _excess and its gradients, from a table for each event of a batch."""
    rule = DOUBLE if ops.is_double(offsets) else QUICK
    log_f, score, _, by_narrow = tabulate(ops, rule, narrow, flipped)
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


@hot
def concrete_moments(ops: QuadratureOps, logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Mean and variance of softmax((logits + G) / temperature), with G standard Gumbel noise."""
    above_one = temperature > 1
    scale = ops.where(above_one, temperature, 1.0)
    narrow, offsets = ops.where(above_one, 1 / scale, temperature), _centred(ops, logits, scale)[1]
    way = _moments_by_rows if narrow.ndim else low_rank.moments
    mean, rest = way(ops, offsets, narrow)
    mean = mean / ops.sum(mean)[..., None]  # so a single category has exactly 1
    second = mean + ops.where(above_one, 1.0, temperature)[..., None] * rest
    return mean, ops.clip(second - mean * mean, 0.0, 1.0)


def _moments_by_rows(ops: QuadratureOps, offsets: Array, narrow: Array) -> list[Array]:
    """The integrals of the mean, and of the second moment minus the mean."""
    rule = DOUBLE if ops.is_double(offsets) else SINGLE
    tables = tabulate(ops, rule, narrow, narrow < 0)[:3]

    def terms(t: Array) -> list[Array]:
        log_f, score, slope = ops.interpolate(tables, t - offsets / rule.interval)
        p = ops.exp(ops.sum(log_f))[..., None]
        return [score * p, slope * p]

    return ops.integrate(terms, rule.outer, rule.steps, offsets)


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
