"""Quadrature rules, and tables of the functions in the integrals of ``quadrature``."""

from typing import Any

import numpy as np

from relaxed_dists._ops import Array, QuadratureOps


def nodes(number: int, low: float, high: float) -> tuple[Any, Any]:
    """Points from low to high, finely spaced near 0 and coarsely in the tails, and their weights.

    The integrands are analytic and vanish at both ends. So with t = 2 sinh u and evenly spaced u,
    the sum converges exponentially.
    """
    u = np.linspace(np.arcsinh(low / 2), np.arcsinh(high / 2), number)
    return 2 * np.sinh(u), 2 * np.cosh(u) * (u[1] - u[0])


class Rule:
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


DOUBLE = Rule(inner=80, outer=140, low=-36.5, high=36.5, end=40.0, interval=0.5, order=12)
SINGLE = Rule(inner=40, outer=60, low=-18.0, high=24.0, end=25.0, interval=0.25, order=5)
# A coarser rule, for a value and its gradient at each training step: relative errors are 1e-7.
QUICK = Rule(inner=40, outer=50, low=-18.0, high=24.0, end=25.0, interval=0.25, order=4)


def tabulate(ops: QuadratureOps, rule: Rule, narrow: Array, flipped: Array) -> list[Array]:
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
