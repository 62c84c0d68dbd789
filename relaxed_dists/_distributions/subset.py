r"""Subsets of k categories: formulas, integrals, messages, families (long: they belong together).

Scores are logits plus Gumbel noise. The k categories with the largest scores are distributed as k
categories that are drawn one after the other without replacement, if their order is ignored
(Plackett-Luce). A family has the formulas of a distribution, for any framework.
"""

import itertools
import math
import operator
from typing import Any, ClassVar

import numpy as np

from relaxed_dists._distributions.family import Family, Parameters
from relaxed_dists._distributions.formulas import (
    FAR,
    HUGE,
    LOWEST,
    finite_or,
    hot,
    softmax,
    straight_through,
)
from relaxed_dists._distributions.permutation import no_transform
from relaxed_dists._errors import UNCOUNTED, missing
from relaxed_dists._ops import Array, Ops, QuadratureOps

LIMIT = 2**20  # the largest number of subsets that is enumerated
WORK = 2**14  # roughly the most numbers that inclusion's arrays have for each event
BELOW = -1e25  # lower than all scores; divided by COLDEST^2 (a gradient) it doesn't overflow
SMALL = -9.0  # if log t < SMALL, log((1 - exp(-t)) / t) is -t / 2 + t^2 / 24 to rounding


def size(name: str, k: Any, categories: int) -> int:
    """k as a Python integer; an error if k of the categories can't be drawn."""
    if k is None:
        raise no_size(name, categories)
    try:
        number = operator.index(k)
    except TypeError as error:  # also a traced array, since k determines shapes
        raise bad_size(name, k, categories) from error
    if isinstance(k, bool) or not 1 <= number <= categories:
        raise bad_size(name, k, categories)
    return number


@hot
def largest(ops: QuadratureOps, logits: Array, noise: Array | float, k: int) -> Array:
    """The k-hot vector of the k largest unmasked logits + noise; all if fewer are unmasked."""
    unmasked, finite = finite_or(ops, logits)
    return ops.where(unmasked, ops.top(ops.where(unmasked, finite + noise, -math.inf), k), 0.0)


@hot
def relaxed(
    ops: QuadratureOps, k: int, hard: bool, logits: Array, temperature: Array, gumbel: Array
) -> Array:
    """The sum of k rounds of softmax (Xie and Ermon, algorithm 1).

    After each round with the softmax a, log(1 - a) is added to the scores. If at most k categories
    are unmasked, the value is 1 for each of them. If hard, the value is k-hot, with the gradient of
    the sum.
    """
    unmasked, finite = finite_or(ops, logits, FAR)
    scores = ops.where(unmasked, finite + gumbel, FAR)
    value = rounds(ops, k, scores, temperature[..., None])
    value = ops.where(_number(ops, unmasked) > k, value, 1.0)
    value = ops.where(unmasked, value, 0.0)
    return straight_through(ops, largest(ops, logits, gumbel, k), value) if hard else value


@hot
def rounds(ops: QuadratureOps, k: int, scores: Array, temperature: Array) -> Array:
    """The sum of k rounds of softmax of finite scores.

    After each round with the softmax a, log(1 - a) is added to the scores. The last axis of the
    temperature has length 1.
    """

    def take(carry: tuple[Array, Array], _: Any) -> tuple[tuple[Array, Array], None]:
        scores, taken = carry
        a, log_left, _, _ = one_round(ops, scores, temperature)
        return (scores + log_left, taken + a), None

    (_, value), _ = ops.scan(take, (scores, 0.0 * scores), None, k)
    return value


@hot
def one_round(ops: Ops, scores: Array, temperature: Array) -> tuple[Array, Array, Array, Array]:
    """A round's softmax a and log(1 - a), both exact where the largest a rounds to 1.

    Also two parts of a: the softmax of all scores but the largest, with 0 in its place, and the sum
    of their a. The product is a, but for the largest score. If several scores are the largest, none
    is left out: none of their a is above 1/2, and a maximum would split its gradient among them.
    """
    top, single, largest = largest_score(ops, scores)
    others = ops.where(top, BELOW, scores)
    second = ops.stop_gradient(ops.max(others))[..., None]
    weight = ops.exp((others - second) / temperature)
    total = ops.sum(weight)[..., None]  # at least 1
    logit = ops.log(total) + (second - largest) / temperature
    rest = ops.where(single, ops.sigmoid(logit), 1.0)  # 1 - a for the largest a
    part = weight / total
    small = part * rest
    a = ops.where(top, ops.exp(-ops.softplus(logit)), small)
    # Any other a is at most 1/2, so log1p(-a) is exact.
    return a, ops.where(top, -ops.softplus(-logit), ops.log1p(-small)), part, rest


def largest_score(ops: Ops, scores: Array) -> tuple[Array, Array, Array]:
    """Where a single score is the largest, whether there is one, and the largest score."""
    largest = ops.max(scores)[..., None]
    is_largest = scores == largest
    single = ops.sum(ops.where(is_largest, 1.0, 0.0))[..., None] == 1
    return is_largest & single, single, largest


def _number(ops: QuadratureOps, unmasked: Array) -> Array:
    return ops.sum(ops.where(unmasked, 1.0, 0.0))[..., None]


def _rule(k: int, double: bool) -> tuple[Any, Any, Any]:
    """Nodes and weights of log_prob's integral over v, and points, one of which is near the peak.

    The integrand is entire and log-concave. Its peak is in [0, log(1 + k)], and is at most 1 and at
    least 1 / sqrt(1 + k) wide. To the left of the peak the integrand may fall as slowly as exp(v).
    With the substitution v = u - exp(-u), sums over evenly spaced u converge exponentially.
    """
    root = math.sqrt(k)
    low, reach, number = (-3.55, 40, 100 + 30 * root) if double else (-2.75, 18, 32 + 16 * root)
    high = math.log(1 + k + (9 if double else 6) * math.sqrt(1 + k) + reach)
    u = np.linspace(low, high, int(number))
    peaks = np.linspace(0, math.log1p(k), int(9 + root))
    return u - np.exp(-u), (1 + np.exp(-u)) * ((high - low) / (int(number) - 1)), peaks


@hot
def log_prob(ops: QuadratureOps, k: int, logits: Array, value: Array) -> Array:
    """The log mass of a k-hot vector, whose gradient does not reach the vector.

    With w = exp(logits) and W the sum of w outside the subset S,
    P(S) = int_0^inf exp(-x) prod_S (1 - exp(-x w_i / W)) dx, computed here with x = exp(v). In this
    integral each category i arrives after an exponential time of rate w_i, and x / W is the time
    when the first category outside S arrives. Kool et al. (2020), appendix B, substitute
    u = exp(-x).
    """
    unmasked, finite = finite_or(ops, logits, FAR)
    inside, outside = unmasked & (value == 1), unmasked & (value == 0)
    on = ops.sum(ops.where(inside | (value == 0), 0.0, 1.0)) == 0
    on = on & (_number(ops, inside) == ops.clip(_number(ops, unmasked), 0.0, k))[..., 0]

    most = ops.stop_gradient(ops.max(ops.where(outside, finite, FAR)))[..., None]
    rest = ops.sum(ops.exp(ops.where(outside, finite - most, FAR)))[..., None]
    whole = most + ops.log(ops.clip(rest, 1e-30, math.inf))
    rho = ops.where(inside, finite - whole, 0.0)
    # Where rho is far below 0, log(1 - exp(-exp(v + rho))) is about v + rho, in which v would lose
    # its digits. So ``low``, the negative part of rho, is only added after the integral.
    low = ops.where(rho < 0, rho, 0.0)

    def height(rho: Array, low: Array, v: Array) -> Array:
        y = v + rho
        t = ops.exp(ops.clip(y, -math.inf, SMALL))
        small = v + (rho - low) - t * (0.5 - t / 24)
        # For y above 5, 1 - exp(-exp(y)) is 1 to rounding.
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


def _arrivals(k: int, categories: int, double: bool) -> Any:
    """Nodes and weights of inclusion's integral over v, in pieces.

    Far below 0 the integrand is about ``categories * exp(v)``; above about ``log(reach + log k)``
    it is 0 to rounding. A larger k makes the integrand steeper, so that it needs more nodes.
    """
    reach, number = (38.0, 100) if double else (18.0, 40)
    low, high = -math.log(reach + math.log(categories)), math.log(reach + 3 + math.log(k))
    number = int(number * (1 + 0.1 * math.sqrt(k)))
    # The nodes are in pieces, so that memory does not grow with the number of nodes.
    pieces = math.ceil(number / max(1, WORK // (categories * k)))
    number = pieces * math.ceil(number / pieces)
    u = np.linspace(low, high, number)
    nodes = np.stack([u - np.exp(-u), (1 + np.exp(-u)) * ((high - low) / (number - 1))])
    return nodes.reshape(2, pieces, -1).transpose(1, 0, 2)


@hot
def inclusion(ops: QuadratureOps, k: int, logits: Array) -> Array:
    """The probability that each category is in the subset: the mean of the k-hot vector.

    Category i arrives after an exponential time of rate w_i, and the subset is the first k to
    arrive. Write times as exp(v), g_i for the density of category i's v, and A_i(v) for the
    probability that fewer than k other categories have arrived. Then the result is the integral of
    g_i A_i. For categories with large logits g_i reaches far to the left, so the result is computed
    as 1 minus the integral of g_i (1 - A_i). A_i is a sum over j of products: the probability that
    exactly j categories with indices below i have arrived, times the probability that fewer than
    k - j categories with indices above i have arrived.
    """
    unmasked, finite = finite_or(ops, logits, FAR)
    first = largest(ops, logits, 0.0, k) > 0
    last = -ops.max(ops.where(first, -finite, LOWEST))  # the k-th largest logit
    offsets = ops.columns(finite - ops.stop_gradient(last)[..., None])[..., None, None]
    top = offsets[..., 0] > 1
    number = logits.shape[-1]
    backwards = np.arange(number)[::-1].copy()
    # Row j of the pmf is for exactly j arrivals; row j of the cdf is for fewer than k - j arrivals.
    count = np.arange(k)[:, None]
    up, down = np.maximum(count[:, 0] - 1, 0), np.minimum(count[:, 0] + 1, k - 1)
    start, not_first, not_last = (
        ops.constant(x * 1.0, logits) for x in (count == 0, count > 0, count < k - 1)
    )

    def earlier(pmf: Array, x: Array) -> tuple[Array, Array]:
        return pmf + (pmf[..., up, :] * not_first - pmf) * -ops.expm1(-x), pmf

    def later(cdf: Array, x: Array) -> tuple[Array, Array]:
        return cdf + (cdf[..., down, :] * not_last - cdf) * -ops.expm1(-x), cdf

    def add(total: Array, nodes: Array) -> tuple[Array, None]:
        x = ops.exp(ops.clip(offsets + nodes[0], -math.inf, 6.0))  # (categories, events, 1, nodes)
        none = 0.0 * x[0]
        before = ops.scan(earlier, none + start, x[backwards], number)[1][backwards]
        after = ops.scan(later, none + 0.0 * start + 1.0, x, number)[1]
        fewer, x = (before * after).sum(-2), x[..., 0, :]
        terms = x * ops.exp(-x) * ops.where(top, 1 - fewer, fewer)
        return total + ops.sum(terms * nodes[1]), None

    nodes = _arrivals(k, number, ops.is_double(logits))
    total = 0.0 * offsets[..., 0, 0]
    share, _ = ops.scan(add, total, ops.constant(nodes, logits), len(nodes))
    share = ops.rows(ops.where(top[..., 0], 1 - share, share), logits)
    share = ops.where(_number(ops, unmasked) > k, share, 1.0)
    return ops.where(unmasked, share, 0.0)


@hot
def entropy(ops: QuadratureOps, k: int, logits: Array, values: Array) -> Array:
    """-sum P(S) log P(S) over ``values``, all k-hot vectors: no faster formula is known."""
    mass = log_prob(ops, k, logits[..., None, :], values)
    on = mass > -math.inf
    mass = ops.where(on, mass, 0.0)
    return 0.0 - ops.sum(ops.where(on, ops.exp(mass) * mass, 0.0))


def support(name: str, k: int, categories: int) -> Any:
    """All k-hot vectors, in the lexicographic order of their categories, as a NumPy array."""
    number = math.comb(categories, k)
    if number > LIMIT:
        raise too_many(name, number, LIMIT)
    values = np.zeros((number, categories))
    members = list(itertools.combinations(range(categories), k))
    np.put_along_axis(values, np.array(members), 1.0, -1)
    return values


# The functions below make the errors of this module.


def bad_size(name: str, k: Any, categories: int) -> ValueError:
    """The error about a k that is not a possible number of categories."""
    return ValueError(
        f"{name} got k={k!r} of {categories} categories; expected a whole number from 1 to "
        f"{categories}, the same for the whole batch. Give it as a Python number."
    )


def no_size(name: str, categories: int) -> ValueError:
    """The error about a missing k, as when Pyro makes a marginal from class and logits alone."""
    return ValueError(
        f"{name} got k=None of {categories} categories; expected a whole number from 1 to "
        f"{categories}. If Pyro asked, for the marginals or posterior samples of an enumerated "
        "site: given the other sites its value is no Subset any more. With values = "
        "subset.enumerate_support() draw i from Categorical(logits=subset.log_prob(values)) "
        "instead, and write values[i]. See docs/machinery.md."
    )


def too_few(name: str, k: int, logits: Any) -> ValueError:
    """The error about masks that leave fewer than k categories."""
    return ValueError(
        f"{name} got a row with fewer than k={k} categories that are not masked: {logits}; "
        "expected at least that many. Take a smaller k, or mask fewer."
    )


def too_many(name: str, number: int, limit: int) -> NotImplementedError:
    """The error about more subsets than can be enumerated."""
    return NotImplementedError(
        f"{name} has {number} values; expected at most {limit} to enumerate. "
        "Draw from it, or use a smaller k."
    )


def no_subset_integers() -> NotImplementedError:
    """The error about NumPyro's enumeration of subsets, which are not integers."""
    return NotImplementedError(
        "NumPyro's enumeration (of NUTS, TraceEnum_ELBO or scan) got a Subset, and would give it "
        "the numbers 0, 1, 2 and so on; expected a distribution of such numbers. For the evidence "
        "take exact_evidence, without scan; or with values = distribution.enumerate_support() draw "
        "i from Categorical(logits=distribution.log_prob(values)) and write values[i]. "
        "See docs/machinery.md."
    )


def no_subset_density(name: str) -> NotImplementedError:
    """The error about the density of a relaxed subset."""
    return NotImplementedError(
        f"{name} has no log_prob: the density of its rounds of softmax is not known; expected a "
        f"distribution with one. {UNCOUNTED}; Subset (.discrete) has the exact log_prob of a hard "
        "value; and for k=1 take RelaxedOneHotCategorical. See docs/subsets.md."
    )


class Subset(Family):
    """The family of k-hot vectors."""

    is_discrete = True
    checks_logits = True
    remedy = "Round a relaxed value, or draw it with hard=True."

    def __init__(self, k: Any) -> None:
        self.k = k

    @property
    def noun(self) -> str:  # type: ignore[override]
        return f"{self.k}-hot vectors"

    @property
    def support_name(self) -> str:
        return f"KHot(k={self.k})"

    def checked(self, name: str, event_shape: Any) -> Family:
        return Subset(size(name, self.k, event_shape[-1]))

    def draw(self, ops: QuadratureOps, p: Parameters, noise: Array) -> tuple[Array, None]:
        return largest(ops, p.logits, noise, self.k), None

    def log_prob(self, ops: QuadratureOps, p: Parameters, value: Array, sample: Any) -> Array:
        return log_prob(ops, self.k, p.logits, ops.stop_gradient(value))

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == self.k)

    def enumerate_support(self, categories: int) -> Any:
        return support("Subset", self.k, categories)

    def possible(self, logits: Any) -> bool:
        return bool(((logits > -HUGE).sum(-1) >= self.k).all())

    def impossible(self, name: str, logits: Any) -> Exception:
        return too_few(name, self.k, logits)

    def no_integers(self, name: str) -> Exception:
        return no_subset_integers()

    def feasible(self, event_shape: Any) -> Any:
        return np.arange(event_shape[-1]) < self.k

    def probs(self, ops: Ops, p: Parameters) -> Array:
        return softmax(ops, p.logits)

    def mean(self, ops: QuadratureOps, p: Parameters) -> Array:
        return inclusion(ops, self.k, p.logits)

    def variance(self, ops: QuadratureOps, p: Parameters) -> Array:
        mean = self.mean(ops, p)
        return mean * (1 - mean)

    def entropy(self, ops: QuadratureOps, p: Parameters) -> Array:
        values = self.enumerate_support(p.logits.shape[-1])
        return entropy(ops, self.k, p.logits, ops.constant(values, p.logits))

    def mode(self, ops: QuadratureOps, p: Parameters) -> Array:
        return largest(ops, p.logits, 0.0, self.k)


class RelaxedSubset(Subset):
    """The family of vectors that sum to k.

    If hard, the values are k-hot vectors with the gradient of a vector that sums to k.
    """

    is_discrete = False
    enumerate_support: Any = None
    lacks: ClassVar = {"log_prob": no_subset_density}

    def __init__(self, k: Any, hard: bool) -> None:
        super().__init__(k)
        self.hard = hard

    def checked(self, name: str, event_shape: Any) -> Family:
        return RelaxedSubset(size(name, self.k, event_shape[-1]), self.hard)

    def draw(self, ops: QuadratureOps, p: Parameters, noise: Array) -> tuple[Array, None]:
        return relaxed(ops, self.k, self.hard, p.logits, p.temperature, noise), None

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return (value >= 0).all(-1) & (abs(value.sum(-1) - self.k) <= self.k * slack)

    @property
    def support_name(self) -> str:
        return f"RelaxedKHot(k={self.k})"

    def no_transform(self) -> Exception:
        return no_transform("RelaxedSubset")

    def method(self, what: str, name: str) -> Any:
        """The method named ``what``. Only hard values have moments and mode, which are Subset's."""
        if what == "entropy" or (what in ("mean", "variance", "mode") and not self.hard):
            raise missing(name, what, self)
        return super().method(what, name)
