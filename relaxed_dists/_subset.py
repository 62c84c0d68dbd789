r"""Subsets of k categories: the relaxed sample, and the mass of the discrete law.

Scores are logits plus Gumbel noise; the subset of the k largest is drawn like k categories one
after the other, each out of those that are left (Plackett-Luce, its order forgotten).
"""

import itertools
import math
import operator
from typing import Any

import numpy as np

from relaxed_dists import _errors_structured as _errors
from relaxed_dists._formulas import FAR, LOWEST, Array, Ops, _finite, straight_through

LIMIT = 2**20  # more subsets than that are not enumerated
SMALL = -9.0  # log t below which log((1 - exp(-t)) / t) is -t / 2 + t^2 / 24 to rounding


def size(name: str, k: Any, categories: int) -> int:
    """k as a Python number, if that many categories can be drawn."""
    if k is None:
        raise _errors.no_size(name, categories)
    try:
        number = operator.index(k)
    except TypeError as error:  # of a traced array as well: k is a shape of the computation
        raise _errors.bad_size(name, k, categories) from error
    if isinstance(k, bool) or not 1 <= number <= categories:
        raise _errors.bad_size(name, k, categories)
    return number


def hardest(ops: Ops, logits: Array, noise: Array | float, k: int) -> Array:
    """The k-hot vector of the largest logits + noise among the categories kept, all if fewer."""
    kept, finite = _finite(ops, logits)
    return ops.where(kept, ops.top(ops.where(kept, finite + noise, -math.inf), k), 0.0)


def relaxed(
    ops: Ops, k: int, hard: bool, logits: Array, temperature: Array, gumbel: Array
) -> Array:
    """k rounds of softmax of the scores, each then less what it took: Xie and Ermon, algorithm 1.

    Where no more than k categories are kept there is one subset, of all of them.
    """
    kept, finite = _finite(ops, logits, FAR)
    heat = temperature[..., None]
    scores = ops.where(kept, finite + gumbel, FAR)

    def take(carry: tuple[Array, Array], _: Any) -> tuple[tuple[Array, Array], None]:
        scores, taken = carry
        log_a, a = ops.softmaxes_at(scores, heat)
        return (scores + _log1m(ops, log_a), taken + a), None

    (_, value), _ = ops.scan(take, (scores, 0.0 * scores), None, k)
    value = ops.where(_number(ops, kept) > k, value, 1.0)
    value = ops.where(kept, value, 0.0)
    return straight_through(ops, hardest(ops, logits, gumbel, k), value) if hard else value


def _number(ops: Ops, kept: Array) -> Array:
    return ops.sum(ops.where(kept, 1.0, 0.0))[..., None]


def _log1m(ops: Ops, log_a: Array) -> Array:
    """log(1 - a); for the largest a, which may round to 1, the log of the sum of the others."""
    top = ops.one_hot_argmax(log_a) > 0
    others = ops.where(top, LOWEST, log_a)
    largest = ops.stop_gradient(ops.max(others))[..., None]
    rest = ops.where(top, 0.0, ops.exp(others - largest))
    log_rest = largest + ops.log(ops.clip(ops.sum(rest), 1e-30, math.inf))[..., None]
    # Where top is false, a is at most 1/2.
    return ops.where(top, log_rest, ops.log1p(-ops.exp(others)))


def _rule(k: int, double: bool) -> tuple[Any, Any, Any]:
    """Nodes and weights of the integral over v, and points of which one is near its peak.

    The integrand is entire and log-concave, its peak in [0, log(1 + k)] no wider than 1 and no
    narrower than 1 / sqrt(1 + k). On the left it may fall as slowly as exp(v), hence
    v = u - exp(-u), of which evenly spaced u converge exponentially.
    """
    root = math.sqrt(k)
    low, reach, number = (-3.55, 40, 100 + 30 * root) if double else (-2.75, 18, 32 + 16 * root)
    high = math.log(1 + k + (9 if double else 6) * math.sqrt(1 + k) + reach)
    u = np.linspace(low, high, int(number))
    peaks = np.linspace(0, math.log1p(k), int(9 + root))
    return u - np.exp(-u), (1 + np.exp(-u)) * ((high - low) / (int(number) - 1)), peaks


def log_prob(ops: Ops, k: int, logits: Array, value: Array) -> Array:
    """The log mass of a k-hot vector: with w = exp(logits) and W the sum of w outside the subset S,

    P(S) = int_0^inf exp(-x) prod_S (1 - exp(-x w_i / W)) dx, here with x = exp(v): W x is when the
    first category outside comes, if each comes after an exponential time of rate w. Kool et al.
    (2020), appendix B, have u = exp(-x). No gradient comes by the value.
    """
    kept, finite = _finite(ops, logits, FAR)
    inside, outside = kept & (value == 1), kept & (value == 0)
    on = ops.sum(ops.where(inside | (value == 0), 0.0, 1.0)) == 0
    on = on & (_number(ops, inside) == ops.clip(_number(ops, kept), 0.0, k))[..., 0]

    most = ops.stop_gradient(ops.max(ops.where(outside, finite, FAR)))[..., None]
    rest = ops.sum(ops.exp(ops.where(outside, finite - most, FAR)))[..., None]
    whole = most + ops.log(ops.clip(rest, 1e-30, math.inf))
    rho = ops.where(inside, finite - whole, 0.0)
    # What would cancel in log(1 - exp(-exp(v + rho))) where rho is far below 0 is added at the end.
    low = ops.where(rho < 0, rho, 0.0)

    def height(rho: Array, low: Array, v: Array) -> Array:
        y = v + rho
        t = ops.exp(ops.clip(y, -math.inf, SMALL))
        small = v + (rho - low) - t * (0.5 - t / 24)
        # From exp(5) on the factor is 1 to rounding.
        large = ops.log(-ops.expm1(-ops.exp(ops.clip(y, SMALL, 5.0)))) - low
        terms = ops.where(inside, ops.where(y < SMALL, small, large), 0.0)
        return ops.sum(terms + (v - ops.exp(v)) / rho.shape[-1])

    points, weights, peaks = _rule(k, ops.is_double(logits))
    fixed = ops.stop_gradient(rho), ops.stop_gradient(low)

    def higher(peak: Array, v: Array) -> tuple[Array, None]:
        other = height(*fixed, v)
        return ops.where(other > peak, other, peak), None

    start = 0.0 * ops.sum(fixed[0]) + LOWEST
    peak, _ = ops.scan(higher, start, ops.constant(peaks, rho), len(peaks))
    (total,) = ops.integrate(lambda v: [ops.exp(height(rho, low, v) - peak)], points, weights, rho)
    mass = ops.sum(low) + peak + ops.log(total)
    mass = ops.where(ops.sum(ops.where(outside, 1.0, 0.0)) > 0, mass, 0.0)
    return ops.where(on, mass, -math.inf)


def support(name: str, k: int, categories: int) -> Any:
    """All k-hot vectors, the first categories first, as a NumPy array."""
    number = math.comb(categories, k)
    if number > LIMIT:
        raise _errors.too_many(name, number, LIMIT)
    values = np.zeros((number, categories))
    members = list(itertools.combinations(range(categories), k))
    np.put_along_axis(values, np.array(members), 1.0, -1)
    return values
