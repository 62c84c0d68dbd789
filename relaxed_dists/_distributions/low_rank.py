"""The integrals of ``quadrature`` for rows with one temperature, without work for each node.

The matrix log F(t_j - a) of nodes and offsets has a low rank. With B_m(a) = exp(a) T_m(x), where
T_m are the Chebyshev polynomials and x = 1 + 2 max(a, -reach) / reach, it is sum_m C_jm B_m(a). The
factor exp(a) keeps the digits of small terms; below -reach the sum without this factor is constant,
or its product with exp(a) is negligible. So log P(t_j) = sum_m C_jm S_m with S_m = sum_k B_m(a_k),
and an integral over t is a series of B_m(a_k). The work is linear in the number of categories.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from relaxed_dists._distributions.formulas import EULER
from relaxed_dists._distributions.tables import Rule, tabulate
from relaxed_dists._ops import Array, QuadratureOps


class LowRank(Rule):
    """A rule with Chebyshev polynomials of the offsets, for a table that a whole batch shares.

    Args:
        reach: Below the offset -reach, log F divided by exp(offset) no longer changes.
        terms: The number of polynomials on (-reach, 0).
        rule: The arguments of Rule except ``end``, which follows from ``high`` and ``reach``.
    """

    def __init__(self, reach: float, terms: int, **rule: Any) -> None:
        super().__init__(**rule, end=rule["high"] + reach + 1)
        self.reach, self.terms = reach, terms
        angles = np.pi * (np.arange(terms) + 0.5) / terms
        offsets = (np.cos(angles) - 1) * reach / 2
        self.pairs = self.outer[:, None] - np.append(offsets, 0.0) / self.interval
        fit = np.cos(angles[:, None] * np.arange(terms)) * np.exp(-offsets)[:, None]
        self.to_chebyshev = fit * np.where(np.arange(terms) > 0, 2, 1) / terms
        # The derivative of B_m is the sum over n of derivative_mn B_n, since the derivative of T_m
        # is 2 m (T_{m-1} + T_{m-3} + ...), where T_0 counts half.
        m, n = np.indices((terms, terms))
        slopes = np.where((n < m) & ((m - n) % 2 == 1), 2.0 * m, 0.0) * np.where(n > 0, 1, 0.5)
        self.derivative = np.eye(terms) + 2 / reach * slopes

    def _places(self, ops: QuadratureOps, a: Array) -> tuple[Array, Array]:
        return 1 + 2 / self.reach * ops.clip(a, -self.reach, 1.0), ops.exp(a)

    def sums(self, ops: QuadratureOps, a: Array, v: Array) -> Array:
        """The sums of v_k B_m(a_k) over the categories k, by the recurrence of T_m."""
        x, weight = self._places(ops, a)
        weight, twice = weight * v, 2 * x

        def step(last: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], Array]:
            before, now = last
            return (now, twice * now - before), ops.total(now)[0]

        sums: Array = ops.scan(step, (weight * x, weight), None, self.terms)[1]
        return sums

    def series(self, ops: QuadratureOps, a: Array, c: Array) -> Array:
        """The sums of c_m B_m(a_k) over m, by Clenshaw's recurrence."""
        x, weight = self._places(ops, a)
        twice = 2 * x

        def step(last: tuple[Array, ...], c: Array) -> tuple[tuple[Array, ...], None]:
            now, after = last
            return (twice * now - after + c, now), None

        (now, after), _ = ops.scan(step, (0 * x, 0 * x), c, self.terms)
        return weight * (now - x * after)


_DOUBLE = LowRank(
    reach=36.0, terms=248, inner=80, outer=140, low=-36.5, high=36.5, interval=0.5, order=12
)
_SINGLE = LowRank(
    reach=24.0, terms=96, inner=40, outer=50, low=-18.0, high=24.0, interval=0.25, order=5
)


class _Nodes(NamedTuple):
    """What the integrals have at the nodes.

    Args:
        rule: The rule.
        a: The offsets, as ``columns``.
        sums: The sums S_m.
        share: The weights, times the cdf F of the category with the offset 0.
        change: The logs of P / F.
        others: For each other function that was asked for, its coefficients like C.
    """

    rule: LowRank
    a: Array
    sums: Array
    share: Array
    change: Array
    others: list[Array]


def _at_nodes(
    ops: QuadratureOps, offsets: Array, narrow: Array, flipped: Array, wanted: Sequence[int]
) -> _Nodes:
    rule = _DOUBLE if ops.is_double(offsets) else _SINGLE
    tables = tabulate(ops, rule, narrow, flipped)
    functions = ops.interpolate(
        [tables[0], *(tables[i] for i in wanted)], ops.constant(rule.pairs, narrow)
    )
    fit = ops.constant(rule.to_chebyshev, narrow)
    log_f, *others = (ops.dot(y[:, :-1], fit) for y in functions)
    a = ops.columns(offsets)
    sums = ops.sums(rule, a, ops.stop_gradient(0 * a + 1))
    # The term of the category with the offset 0 (x = 1) alone is 1 in each of the sums.
    alone = functions[0][:, -1]  # log F; if it is below -reach, P is 0 to rounding
    share = ops.where(alone > -rule.reach, ops.exp(alone) * ops.constant(rule.steps, narrow), 0.0)
    change = ops.clip(ops.dot(log_f, sums - 1), -math.inf, 0.0)
    return _Nodes(rule, a, sums, share, change, others)


def _integral(ops: QuadratureOps, at: _Nodes, function: Array, offsets: Array) -> Array:
    """int function(t - a_k) P(t) dt for each category k."""
    c = ops.dot((at.share[:, None] * function).T, ops.exp(at.change))
    return ops.rows(ops.series(at.rule, at.a, c), offsets)


def excess(
    ops: QuadratureOps, wanted: Sequence[bool], offsets: Array, narrow: Array, flipped: Array
) -> list[Array | None]:
    """The result of ``quadrature._excess`` and its gradients."""
    at = _at_nodes(ops, offsets, narrow, flipped, (1, 3))
    # E V is the mean of F, the cdf of the category with the offset 0 alone.
    value = -ops.dot(at.share, ops.expm1(at.change)).reshape(offsets.shape[:-1])
    score, by_narrow = at.others
    gradients: list[Array | None] = [None, None]
    if wanted[0]:
        gradients[0] = _integral(ops, at, score, offsets)
    if wanted[1]:
        by = -ops.dot(at.share, ops.exp(at.change) * ops.dot(by_narrow, at.sums)) - EULER
        gradients[1] = by.reshape(offsets.shape[:-1])
    return [value, *gradients, None]


def moments(ops: QuadratureOps, offsets: Array, narrow: Array) -> list[Array]:
    """The integrals of the mean, and of the second moment minus the mean."""
    at = _at_nodes(ops, offsets, narrow, narrow < 0, (1, 2))
    return [_integral(ops, at, function, offsets) for function in at.others]
