r"""HardConcrete: its formulas, integrals, messages and family (long: they belong together).

A relaxed Bernoulli sample is stretched to (low, high) and clipped to [0, 1].

See Louizos, Welling, Kingma (2018), section 2.2. With y = (logits + L) / t and L logistic noise,
the value z is 0 for y up to log(-low / high), 1 for y from log((1 - low) / (high - 1)) on, and in
between sigmoid(y) (high - low) + low. All integrals are over y between these two ends, which do not
depend on the parameters. The masses at 0 and 1 have closed forms, so small masses keep their
digits. A family has the formulas of a distribution, for any framework. A draw may keep a sample
behind its value: an array that the density needs besides the value.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from relaxed_dists._distributions.bernoulli import (
    logit_concrete,
    logit_concrete_cdf,
    logit_concrete_log_prob,
)
from relaxed_dists._distributions.family import Family, Parameters
from relaxed_dists._distributions.formulas import finite_or, hot, logit, straight_through
from relaxed_dists._errors import LOSES
from relaxed_dists._ops import Array, Ops, QuadratureOps

NEAREST, FARTHEST = 2.0**-20, 2.0**20


class Stretch(NamedTuple):
    """The interval (low, high); values are 0 for y up to ``zero``, and 1 for y from ``one`` on."""

    low: float
    high: float
    zero: float
    one: float


def stretch(name: str, low: Any, high: Any) -> Stretch:
    """The Stretch of the interval from low to high; an error if an end is out of its range."""
    if not (
        isinstance(low, (int, float))
        and isinstance(high, (int, float))
        and NEAREST <= -low <= FARTHEST
        and NEAREST <= high - 1 <= FARTHEST
    ):
        raise bad_stretch(name, low, high)
    return Stretch(low, high, math.log(-low / high), math.log((1 - low) / (high - 1)))


def hard_concrete(ops: QuadratureOps, y: Array, stretch: Stretch, tiny: float, eps: float) -> Array:
    """clip(sigmoid(y) (high - low) + low, 0, 1), which is 0 or 1 only where it is clipped.

    So the masses at 0 and 1 are exact in coarse dtypes too: bfloat16 would otherwise round numbers
    within 0.2 % of 1 to 1.
    """
    inside = (y > stretch.zero) & (y < stretch.one)
    z, _ = _stretched(ops, ops.clip(y, stretch.zero, stretch.one), stretch)
    z = straight_through(ops, ops.clip(z, tiny, 1 - eps / 2), z)
    return ops.where(inside, z, ops.where(y < stretch.one, 0.0 * z, 0.0 * z + 1.0))


def _stretched(ops: QuadratureOps, y: Array, stretch: Stretch) -> tuple[Array, Array]:
    """z = sigmoid(y) (high - low) + low, and the log of its slope dz / dy."""
    up, down = -ops.softplus(-y), -ops.softplus(y)
    z = stretch.high * ops.exp(up) + stretch.low * ops.exp(down)
    return z, math.log(stretch.high - stretch.low) + up + down


def _log_below(ops: QuadratureOps, logits: Array, temperature: Array, y: float) -> Array:
    """log P((logits + L) / t <= y), with L logistic noise and t the temperature."""
    finite, theta = finite_or(ops, logits)
    mass = -ops.softplus(theta - temperature * y)
    return ops.where(finite, mass, ops.where(logits < 0, 0.0 * mass, -math.inf))


def _log_masses(
    ops: QuadratureOps, logits: Array, temperature: Array, stretch: Stretch
) -> tuple[Array, Array]:
    """The logs of P(z = 0) and P(z = 1)."""
    one = _log_below(ops, -logits, temperature, -stretch.one)
    return _log_below(ops, logits, temperature, stretch.zero), one


@hot
def masses(ops: QuadratureOps, logits: Array, temperature: Array, stretch: Stretch) -> Array:
    """P(z = 0) and P(z = 1) on a last axis of two."""
    zero, one = _log_masses(ops, logits, temperature, stretch)
    return ops.stack(ops.exp(zero), ops.exp(one))


@hot
def prob_nonzero(ops: QuadratureOps, logits: Array, temperature: Array, stretch: Stretch) -> Array:
    """P(z != 0) = sigmoid(logits - t log(-low / high))."""
    return ops.exp(_log_below(ops, -logits, temperature, -stretch.zero))


@hot
def prob_one(ops: QuadratureOps, logits: Array, temperature: Array, stretch: Stretch) -> Array:
    """P(z = 1) = sigmoid(logits - t log((1 - low) / (high - 1)))."""
    return ops.exp(_log_masses(ops, logits, temperature, stretch)[1])


def _distances(value: Array, stretch: Stretch) -> tuple[Array, Array]:
    """The value's distances from low and from high, in a form that is positive and keeps digits."""
    return value - stretch.low, (1 - value) + (stretch.high - 1)


@hot
def log_prob(
    ops: QuadratureOps, logits: Array, temperature: Array, value: Array, stretch: Stretch
) -> Array:
    """The log of the mass at 0 and 1, and of the density inside; -inf elsewhere.

    The density is that of the logit y before clipping, divided by dz / dy. The logit y is computed
    from the value z without loss of digits, since no z in (0, 1) is close to low or high, where y
    becomes infinite.
    """
    inside = (value > 0) & (value < 1)
    above, below = map(ops.log, _distances(ops.where(inside, value, 0.5), stretch))
    density = logit_concrete_log_prob(ops, logits, temperature, above - below)
    density = density + math.log(stretch.high - stretch.low) - above - below
    zero, one = _log_masses(ops, logits, temperature, stretch)
    ends = ops.where(value == 0, zero, ops.where(value == 1, one, -math.inf))
    return ops.where(inside, density, ends)


@hot
def crossing(
    ops: QuadratureOps, logits: Array, temperature: Array, moved: Array, stretch: Stretch
) -> Array:
    """Zero, with the part of the mean log density's gradient that pathwise gradients miss.

    The log density jumps at the values 0 and 1, where the distribution that drew the value has the
    masses ``moved``. If a mass grows, the mean log density changes by this growth times the jump.
    The pathwise gradient misses this change, since it is 0 where a draw is clipped.
    """
    finite, theta = finite_or(ops, logits)

    def density(y: float) -> Array:
        slope = math.log(stretch.high - stretch.low) - np.logaddexp(0, y) - np.logaddexp(0, -y)
        at = logit_concrete_log_prob(ops, theta, temperature, y + 0.0 * theta)
        return at - float(slope)

    zero, one = _log_masses(ops, theta, temperature, stretch)
    jumps = ops.stack(zero - density(stretch.zero), one - density(stretch.one))
    jumps = ops.where(finite[..., None], ops.stop_gradient(jumps), 0.0)
    return ops.sum(jumps * (moved - ops.stop_gradient(moved)))


@hot
def cdf(
    ops: QuadratureOps, logits: Array, temperature: Array, value: Array, stretch: Stretch
) -> Array:
    """P(z <= value), which is P(z = 0) at 0, and 1 from 1 on."""
    on = (value >= 0) & (value < 1)
    above, below = map(ops.log, _distances(ops.where(on, value, 0.5), stretch))
    inside = logit_concrete_cdf(ops, logits, temperature, above - below)
    # Outside [0, 1) the cdf is 0 or 1. There ``inside`` is not the cdf: it was computed at 0.5.
    return ops.where(on, inside, ops.where(value < 0, 0.0 * inside, 0.0 * inside + 1.0))


# Expectations are computed by quadrature over y. The integrands are analytic on the interval, and
# change most within a distance of 1 / t from y = logits / t. So the interval is divided into panels
# that start at this y. Each panel has Gauss-Legendre nodes in a variable that is linear in y up to
# the distance 1 / t and logarithmic beyond. The integrals are exact to rounding at any temperature.

REACH = 40.0  # the integrals end at the distance REACH / t, since exp(-40) is below rounding


def _rule(number: int) -> tuple[Any, Any]:
    points, weights = np.polynomial.legendre.leggauss(number)
    return (points + 1) / 2, weights / 2


_SINGLE, _DOUBLE = _rule(16), _rule(36)
_Panel = tuple[Array, Array, Array]  # start, end, and t: nodes are dense within 1 / t of the start


def _clip(ops: QuadratureOps, x: Array, low: Array, high: Array) -> Array:
    return ops.where(x < low, low, ops.where(x > high, high, x))


def _reached(
    ops: QuadratureOps, logits: Array, temperature: Array, stretch: Stretch
) -> tuple[Array, Array, Array]:
    """The y where the integrand changes most, and ends beyond which it is constant to rounding."""
    centre = ops.clip(ops.stop_gradient(logits / temperature), stretch.zero, stretch.one)
    reach = ops.stop_gradient(REACH / temperature)
    low = ops.clip(centre - reach, stretch.zero, stretch.one)
    return centre, low, ops.clip(centre + reach, stretch.zero, stretch.one)


def _integrate(
    ops: QuadratureOps, f: Callable[[Array], Sequence[Array]], panels: Sequence[_Panel], like: Array
) -> list[Array]:
    """The integral over all panels of each array that f returns."""

    def terms(t: Array) -> list[Array]:
        totals: list[Array] = []
        for start, end, temperature in panels:
            size = ops.clip(ops.log1p(temperature * abs(end - start)), 1e-3, math.inf)
            whole = ops.expm1(size)
            y = start + (end - start) * ops.expm1(t * size) / whole
            weight = abs(end - start) * size * ops.exp(t * size) / whole
            parts = [part * weight for part in f(y)]
            totals = [a + b for a, b in zip(totals, parts, strict=True)] if totals else parts
        return totals

    return ops.integrate(terms, *(_DOUBLE if ops.is_double(like) else _SINGLE), like)


@hot
def moments(
    ops: QuadratureOps, logits: Array, temperature: Array, stretch: Stretch
) -> tuple[Array, Array]:
    """Mean and variance, from E z = int P(z > x) dx and E z^2 = int 2 x P(z > x) dx."""
    finite, theta = finite_or(ops, logits)
    centre, low, high = _reached(ops, theta, temperature, stretch)
    held = ops.stop_gradient(temperature)

    def tail(y: Array) -> list[Array]:
        z, log_slope = _stretched(ops, y, stretch)
        share = ops.exp(log_slope - ops.softplus(temperature * y - theta))
        return [share, 2 * z * share]

    first, second = _integrate(ops, tail, [(centre, low, held), (centre, high, held)], theta)
    # The integral over the x that belong to y below low, where P(z > x) is 1 to rounding.
    sure = ops.where(low > stretch.zero, _stretched(ops, low, stretch)[0], 0.0)
    mean, square = ops.clip(sure + first, 0.0, 1.0), sure * sure + second
    edge = ops.where(logits > 0, 0.0 * mean + 1.0, 0.0)
    variance = ops.clip(square - mean * mean, 0.0, 1.0)
    return ops.where(finite, mean, edge), ops.where(finite, variance, 0.0)


@hot
def entropy(ops: QuadratureOps, logits: Array, temperature: Array, stretch: Stretch) -> Array:
    """The entropy, -E log_prob."""
    finite, theta = finite_or(ops, logits)
    centre, low, high = _reached(ops, theta, temperature, stretch)
    held = ops.stop_gradient(temperature)

    def surprise(y: Array) -> list[Array]:
        log_q = logit_concrete_log_prob(ops, theta, temperature, y)
        return [ops.exp(log_q) * (_stretched(ops, y, stretch)[1] - log_q)]

    (inside,) = _integrate(ops, surprise, [(centre, low, held), (centre, high, held)], theta)
    zero, one = _log_masses(ops, theta, temperature, stretch)
    return ops.where(finite, inside - ops.exp(zero) * zero - ops.exp(one) * one, 0.0)


@hot
def kl(
    ops: QuadratureOps,
    logits: Array,
    temperature: Array,
    other: Array,
    other_temperature: Array,
    stretch: Stretch,
) -> Array:
    """KL(p, q) of two distributions with the same stretch, whose slopes dz / dy cancel."""
    (finite, theta), (other_finite, other_theta) = finite_or(ops, logits), finite_or(ops, other)
    centre, low, high = _reached(ops, theta, temperature, stretch)
    other_centre, *_ = _reached(ops, other_theta, other_temperature, stretch)
    other_centre = _clip(ops, other_centre, low, high)
    left = centre < other_centre
    temperatures = ops.stop_gradient(temperature), ops.stop_gradient(other_temperature)
    middle = (centre + other_centre) / 2
    panels = [
        (centre, middle, temperatures[0]),
        (other_centre, middle, temperatures[1]),
        (centre, ops.where(left, low, high), temperatures[0]),
        (other_centre, ops.where(left, high, low), temperatures[1]),
    ]

    def ratio(y: Array) -> list[Array]:
        log_p = logit_concrete_log_prob(ops, theta, temperature, y)
        log_q = logit_concrete_log_prob(ops, other_theta, other_temperature, y)
        return [ops.exp(log_p) * (log_p - log_q)]

    (total,) = _integrate(ops, ratio, panels, theta + 0.0 * other_theta)
    pairs = zip(
        _log_masses(ops, theta, temperature, stretch),
        _log_masses(ops, other_theta, other_temperature, stretch),
        strict=True,
    )
    for log_p, log_q in pairs:
        total = total + ops.exp(log_p) * (log_p - log_q)
    zero, one = _log_masses(ops, other, other_temperature, stretch)
    point = -ops.where(logits < 0, zero, one)  # the KL if p is a point mass
    return ops.where(finite, ops.where(other_finite, total, math.inf), point)


# The functions below make the errors of this module.


def bad_stretch(name: str, low: Any, high: Any) -> ValueError:
    """The error about ends of the stretched interval that do not reach beyond [0, 1]."""
    return ValueError(
        f"{name} got low={low!r} and high={high!r}; expected Python numbers, low below 0 and high "
        "above 1, each by 2**-20 to 2**20 (1e-6 to 1e6). The paper takes -0.1 and 1.1."
    )


def unlike_stretches(p: tuple[float, float], q: tuple[float, float]) -> ValueError:
    """The error about a divergence between distributions that are stretched differently."""
    return ValueError(
        f"kl_divergence got HardConcrete distributions with low and high of {p} and {q}; expected "
        "the same. Give model and guide the same low and high."
    )


def no_mode(name: str) -> NotImplementedError:
    """The error about the mode of a distribution that has both masses and a density."""
    return NotImplementedError(
        f"{name} got asked for its mode, which a distribution of point masses at 0 and 1 and a "
        "density in between does not have; expected a distribution that has one. Use "
        ".deterministic for the value without noise, or .discrete.mode for whether the gate is "
        "open."
    )


def no_transform() -> ValueError:
    """The error about a sampler or an autoguide that got HardConcrete, which has point masses."""
    return ValueError(
        "HMC, NUTS or an autoguide got a site of HardConcrete, whose point masses at 0 and 1 it "
        "would never visit; expected a distribution that has a density. Write a guide that draws "
        "the site from HardConcrete as well, or take RelaxedBernoulli in the model. "
        "See docs/gates.md."
    )


def lost(name: str) -> ValueError:
    """The error about a value without the masses behind it, which an ELBO's gradient needs."""
    return ValueError(
        f"{name}.log_prob got a value that has lost the relaxed sample behind it, in an ELBO whose "
        "gradient would miss the mass that moves across 0 and 1; expected the very object that the "
        f"distribution drew: {LOSES}. Draw the site from {name} itself, and write the rest of the "
        "model after it. See docs/gates.md."
    )


class HardConcrete(Family):
    """The family of numbers in [0, 1] with masses at 0 and 1.

    The sample that a draw keeps behind its value is the pair of these masses.
    """

    event_dim = 0
    space = "masses"
    noun = "numbers from 0 to 1"
    remedy = "Clip them."
    scores_value = True
    support_name = "Gates(lower_bound=0.0, upper_bound=1.0)"
    lost = staticmethod(lost)
    lacks: ClassVar = {"mode": no_mode}

    def __init__(self, stretch: Stretch) -> None:
        self.stretch = stretch

    def _at(self, ops: QuadratureOps, p: Parameters, y: Array) -> Array:
        return hard_concrete(ops, y, self.stretch, p.tiny, p.eps)

    def draw(self, ops: QuadratureOps, p: Parameters, noise: Array) -> tuple[Array, Array]:
        y = logit_concrete(ops, p.logits, p.temperature, noise)
        return self._at(ops, p, y), masses(ops, p.logits, p.temperature, self.stretch)

    def log_prob(self, ops: QuadratureOps, p: Parameters, value: Array, sample: Any) -> Array:
        density = log_prob(ops, p.logits, p.temperature, value, self.stretch)
        if sample is None:
            return density
        return density + crossing(ops, p.logits, p.temperature, sample, self.stretch)

    def valid(self, ops: Ops, value: Array, slack: float, soft: bool = False) -> Array:
        return (value >= 0) & (value <= 1)

    def cdf(self, ops: QuadratureOps, p: Parameters, value: Array, sample: Any) -> Array:
        return cdf(ops, p.logits, p.temperature, value, self.stretch)

    def icdf(self, ops: QuadratureOps, p: Parameters, q: Array) -> tuple[Array, None]:
        y = logit_concrete(ops, p.logits, p.temperature, logit(ops, q))
        return self._at(ops, p, y), None

    def prob_nonzero(self, ops: QuadratureOps, p: Parameters) -> Array:
        return prob_nonzero(ops, p.logits, p.temperature, self.stretch)

    def prob_one(self, ops: QuadratureOps, p: Parameters) -> Array:
        return prob_one(ops, p.logits, p.temperature, self.stretch)

    def deterministic(self, ops: QuadratureOps, p: Parameters) -> Array:
        return self._at(ops, p, p.logits)

    def mean(self, ops: QuadratureOps, p: Parameters) -> Array:
        return moments(ops, p.logits, p.temperature, self.stretch)[0]

    def variance(self, ops: QuadratureOps, p: Parameters) -> Array:
        return moments(ops, p.logits, p.temperature, self.stretch)[1]

    def entropy(self, ops: QuadratureOps, p: Parameters) -> Array:
        return entropy(ops, p.logits, p.temperature, self.stretch)

    def kl(self, ops: QuadratureOps, other: Any, p: Parameters, q: Parameters) -> Array:
        if self.stretch != other.stretch:
            raise unlike_stretches(self.stretch[:2], other.stretch[:2])
        return kl(ops, p.logits, p.temperature, q.logits, q.temperature, self.stretch)

    def discrete_logits(self, ops: Ops, p: Parameters) -> Array:
        return p.logits - p.temperature * self.stretch.zero

    def feasible(self, event_shape: Any) -> Any:
        return 0.5

    def no_transform(self) -> Exception:
        return no_transform()
