r"""Entropy on the simplex and KL divergences of relaxed distributions, exact to rounding.

A sample is y = log_softmax((l + G) / t), with logits l, temperature t and standard Gumbel noise G.
Its log-space density stays the same if a constant is added to y. So the logsumexp inside
log_softmax can be left out, and one expectation remains: E logsumexp(a + r G), where a and r depend
on the parameters. In the formulas K is the number of unmasked categories, and gamma is Euler's
constant.
"""

import math
from collections.abc import Sequence
from typing import Any

from relaxed_dists import _errors
from relaxed_dists._distributions.formulas import (
    EULER,
    HUGE,
    LOWEST,
    count,
    finite_or,
    hot,
    normaliser,
)
from relaxed_dists._distributions.quadrature import expected_logsumexp
from relaxed_dists._distributions.tables import nodes
from relaxed_dists._ops import Array, Ops, QuadratureOps

# The nodes of the integral in ``concrete_kl_at_one_temperature``. Few are needed, because the
# integrand R - P cancels in the tails and so falls off fast.
_SINGLE = nodes(22, -12.0, 8.0)  # the relative error of the KL is at most 3e-7
_DOUBLE = nodes(88, -33.0, 22.0)

# The coefficients 4^n B_2n / (2n)! of x^2, x^4, ... in x coth(x) - 1; B are Bernoulli numbers.
_COTH = (
    1 / 3,
    -1 / 45,
    2 / 945,
    -1 / 4725,
    2 / 93555,
    -1382 / 638512875,
    4 / 18243225,
    -3617 / 162820783125,
    87734 / 38979295480125,
)


def check_shapes(p: Any, q: Any) -> None:
    """Refuse a divergence between distributions whose shapes do not fit together."""
    # np.broadcast_shapes is not used, since it refuses the symbolic sizes of an exported program.
    sizes = zip(reversed(p.batch_shape), reversed(q.batch_shape), strict=False)
    fits = all(m == n or 1 in (m, n) for m, n in sizes)
    if not fits or tuple(p.event_shape) != tuple(q.event_shape):
        raise _errors.unlike_shapes(p, q)


def exp_concrete_entropy(ops: Ops, logits: Array, temperature: Array) -> Array:
    """The entropy in log space, -lgamma(K) - (K-1) log t + K (gamma + digamma(K))."""
    unmasked, logits = finite_or(ops, logits)
    k = count(ops, unmasked, logits)
    return k * (EULER + ops.digamma(k)) - normaliser(ops, k, temperature)


@hot
def concrete_entropy(ops: QuadratureOps, logits: Array, temperature: Array) -> Array:
    """The entropy on the simplex: that in log space plus E sum_k log x_k, for a sample x."""
    unmasked, finite = finite_or(ops, logits)
    a = (finite - ops.stop_gradient(ops.max(logits))[..., None]) / temperature[..., None]
    a = ops.where(unmasked, a, -math.inf)
    k = count(ops, unmasked, logits)
    total = ops.sum(ops.where(unmasked, a, 0.0)) + k * EULER / temperature
    mean_log = total - k * expected_logsumexp(ops, a, 1 / temperature)
    return exp_concrete_entropy(ops, logits, temperature) + ops.where(k > 1, mean_log, 0.0)


@hot
def binary_concrete_entropy(ops: QuadratureOps, logits: Array, temperature: Array) -> Array:
    """The entropy on (0, 1), computed as the entropy on the simplex of two categories."""
    finite, theta = finite_or(ops, logits)
    entropy = concrete_entropy.formula(ops, ops.stack(theta, 0.0 * theta), temperature)
    return ops.where(finite, entropy, 0.0)


# The KL divergences below are the same in log space and on the simplex. They are infinite if the
# two distributions mask different categories.


@hot
def concrete_kl(
    ops: QuadratureOps, logits: Array, temperature: Array, other: Array, other_temperature: Array
) -> Array:
    """The KL divergence at any two temperatures.

    With rho = other_temperature / temperature and a = other - rho logits, the divergence is
    K (S(a, -rho) - digamma(K) + gamma (rho - 1)) - sum a - (K - 1) log rho,
    where S(a, r) is E logsumexp(a + r G).
    """
    unmasked, finite = finite_or(ops, logits)
    q_unmasked, other_finite = finite_or(ops, other)
    k, rho = count(ops, unmasked, logits), other_temperature / temperature
    a = other_finite - rho[..., None] * finite
    a = ops.where(unmasked & q_unmasked, a - ops.stop_gradient(ops.max(a))[..., None], -math.inf)
    each = expected_logsumexp(ops, a, -rho) - ops.digamma(k) + EULER * (rho - 1)
    kl = k * each - ops.sum(ops.where(unmasked & q_unmasked, a, 0.0)) - (k - 1) * ops.log(rho)
    return _on_one_face(ops, unmasked, q_unmasked, ops.where(k > 1, kl, 0.0))


def _on_one_face(ops: QuadratureOps, unmasked: Array, q_unmasked: Array, kl: Array) -> Array:
    return ops.where(ops.sum(ops.where(unmasked == q_unmasked, 0.0, 1.0)) > 0, math.inf, kl)


def concrete_kl_at_one_temperature(ops: QuadratureOps, logits: Array, other: Array) -> Array:
    """The KL divergence at equal temperatures, which does not depend on the temperature.

    With a = other - logits, shifted to mean zero, and X_k standard exponential variables, the
    divergence is K (E log(sum_k exp(a_k) X_k) - digamma(K)). With c = log mean exp(a) it equals
    K (c + int (R - P) dt), where P(t) = prod_k sigmoid(t - a_k) and R(t) = sigmoid(t - c)^K.
    """
    points, weights = _DOUBLE if ops.is_double(logits) else _SINGLE
    unmasked, finite = finite_or(ops, logits)
    q_unmasked, other_finite = finite_or(ops, other)

    def function(wanted: Sequence[bool], given: Array) -> list[Array | None]:
        a = ops.columns(given)
        unmasked = a > LOWEST
        k = ops.clip(ops.total(ops.where(unmasked, 1.0, 0.0 * a)), 1.0, math.inf)
        a = a - ops.total(ops.where(unmasked, a, 0.0)) / k
        unmasked = a > LOWEST / 2
        # Where the distributions are close, c = log mean exp(a) is of the size of a^2, and only
        # log1p keeps the digits of c.
        far = ops.total(ops.where(unmasked & (abs(a) >= 1), 1.0, 0.0 * a)) > 0
        close = ops.log1p(ops.total(ops.expm1(ops.where(abs(a) < 1, a, 0.0))) / k)
        top = ops.columns(ops.max(ops.rows(a, given))[..., None])
        apart = top + ops.log(ops.total(ops.exp(a - top)) / k)
        d = a - ops.where(far, apart, close)
        ratio, weight = ops.where(unmasked, ops.expm1(d), 0.0), ops.exp(d)

        def terms(t: Array) -> list[Array]:
            odds = ops.exp(-t) / k  # R is (1 + odds)^-K, since t is relative to c + log K
            down = odds / (1 + odds)
            # log R - log P is the sum of log((1 + exp(d) odds) / (1 + odds)). Written with log1p,
            # the sum keeps its digits where d is small and the terms cancel.
            change = ops.total(ops.log1p(ratio * down))
            p = ops.exp(-k * ops.log1p(odds) - change)
            less = p * ops.expm1(change)
            if not wanted[0]:
                return [less]
            # The second array is the gradient's integrand minus R sigmoid(-t), whose integral is
            # known to be 1 / K and is added later.
            return [less, p * odds / (1 + weight * odds) - (p + less) * down]

        value, *rest = ops.integrate(terms, points, weights, a)
        value = (k * (ops.where(far, apart, close) + value)).reshape(given.shape[:-1])
        return [value, ops.rows(ratio + k * weight * rest[0], given) if wanted[0] else None]

    a = ops.where(unmasked & q_unmasked, other_finite - finite, LOWEST)
    return _on_one_face(ops, unmasked, q_unmasked, ops.with_gradient(function, a))


@hot
def logit_concrete_kl(
    ops: QuadratureOps, logits: Array, temperature: Array, other: Array, other_temperature: Array
) -> Array:
    """The KL of binary distributions at any two temperatures, computed with two categories."""
    (_, finite), (_, other_finite) = finite_or(ops, logits), finite_or(ops, other)
    row, other_row = ops.stack(finite, 0.0 * finite), ops.stack(other_finite, 0.0 * other_finite)
    kl = concrete_kl.formula(ops, row, temperature, other_row, other_temperature)
    return _of_points(ops, logits, other, kl)


def _of_points(ops: QuadratureOps, logits: Array, other: Array, kl: Array) -> Array:
    """``kl`` where both logits are finite; for point masses, 0 if they are equal, else inf."""
    finite = (abs(logits) < HUGE) & (abs(other) < HUGE)
    return ops.where(finite, kl, ops.where(logits == other, 0.0, math.inf))


def logit_concrete_kl_at_one_temperature(ops: QuadratureOps, logits: Array, other: Array) -> Array:
    """The KL of binary distributions at equal temperatures: d coth(d/2) - 2, d = other - logits."""
    (_, finite), (_, other_finite) = finite_or(ops, logits), finite_or(ops, other)
    d = abs(other_finite - finite)
    small = d < 1
    # Near 0, d coth(d / 2) and 2 cancel, so the series of x coth x - 1 at x = d / 2 is used.
    square, series = ops.where(small, d * d / 4, 0.0), 0.0 * d
    for coefficient in _COTH[::-1]:
        series = (series + coefficient) * square
    rest = ops.expm1(-ops.where(small, 1.0, d))
    kl = ops.where(small, 2 * series, -d * (2 + rest) / rest - 2)
    return _of_points(ops, logits, other, kl)
