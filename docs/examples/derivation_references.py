"""Expected values for the page of derivations, by code that shares nothing with the library.

An expectation under a relaxed distribution equals one over the uniform distribution of the simplex.
The reason: a Gumbel variable is -log of a standard exponential, exponentials over their sum are
uniform on the simplex, and the sum cancels. For a few categories a product rule integrates over the
simplex, for many NumPy draws from it. mpmath or the trapezoidal rule integrates over the line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
from scipy.special import digamma, gammaln, log_softmax, logsumexp, softmax

Array = np.ndarray


def uniform_rule(k: int, number: int = 160) -> tuple[Array, Array]:
    """Logs of points of the simplex of k corners, and the weights of their uniform distribution.

    The rule is stick-breaking: each break has a tanh-sinh rule, where the logs of both pieces are
    exact to rounding.
    """
    v = np.linspace(-3.6, 3.6, number)
    s = np.pi * np.sinh(v)
    log_u, log_rest = -np.logaddexp(0, -s), -np.logaddexp(0, s)
    width = np.log(np.pi * np.cosh(v) * (v[1] - v[0])) + log_u + log_rest
    points, left, log_w = np.zeros((1, 0)), np.zeros(1), np.zeros(1)
    for j in range(k - 1, 0, -1):  # j corners are left beside this one
        first = (left[:, None] + log_u).reshape(-1, 1)
        points = np.hstack([np.repeat(points, number, 0), first])
        log_w = (log_w[:, None] + width + np.log(j) + (j - 1) * log_rest).ravel()
        left = (left[:, None] + log_rest).ravel()
    return np.hstack([points, left[:, None]]), np.exp(log_w)


def log_density(logits: Array, t: float, y: Array) -> Array:
    """The density of y, the log of a relaxed sample: Maddison et al. (2017), appendix C.3."""
    k = len(logits)
    return gammaln(k) + (k - 1) * np.log(t) + log_softmax(logits - t * y, -1).sum(-1)


def own_density(e: Array, t: Array) -> Array:
    """The log density of the log of the sample that is made from exponentials e."""
    k = e.shape[-1]
    return gammaln(k) + (k - 1) * np.log(t) + np.log(e).sum(-1) - k * np.log(e.sum(-1))


def _values(log_s: Array, *given: Any) -> list[Array]:
    """Sample, its log, both squared, -log density of the log and the sample, log density ratio."""
    logits, t, other, other_t = given
    y = log_softmax((logits - log_s) / t, -1)
    x, log_q = np.exp(y), log_density(logits, t, y)
    ratio = log_q - log_density(other, other_t, y)
    return [x, x * x, y, y * y, -log_q, y.sum(-1) - log_q, ratio]


def expectations(logits: Array, t: float, other: Array, other_t: float) -> list[Any]:
    """Moments on the simplex and of the log, both entropies, and KL, by the product rule."""
    kept = logits > -np.inf
    log_s, w = uniform_rule(kept.sum())
    values = [w @ f for f in _values(log_s, logits[kept], t, other[kept], other_t)]
    rows = np.tile([[0.0], [0.0], [-np.inf], [np.inf]], len(logits))  # of masked categories
    rows[:, kept] = values[:4]
    return [*rows, *values[4:]]


def by_draws(number: int, rng: np.random.Generator, *given: Any) -> list[tuple[Any, Any]]:
    """The same expectations by draws, each with its standard error."""
    e = rng.standard_exponential((number, len(given[0])))
    values = _values(np.log(e) - np.log(e.sum(-1, keepdims=True)), *given)
    return [(f.mean(0), f.std(0) / number**0.5) for f in values]


def logsumexp_mean(a: Array, r: float) -> list[Any]:
    """E logsumexp(a + r G), and its derivatives by r and a.

    G is -log of a uniform point of the simplex, minus the log of an independent gamma variable,
    whose mean is digamma(K).
    """
    log_s, w = uniform_rule(len(a))
    scores, mean_log = a - r * log_s, digamma(len(a))
    choice = softmax(scores, -1)
    by_r = w @ (choice * -log_s).sum(-1) - mean_log
    return [w @ logsumexp(scores, -1) - r * mean_log, by_r, w @ choice]


def line_law(a: Array, count: Array, r: float) -> list[Any]:
    """E logsumexp(a + r G), and two moments of softmax(a + r G), where a_k occurs count_k times.

    Trapezoidal rules compute the page's integrals over the line for V = H + r G, without tables.
    """
    g, step = np.linspace(-6, 45, 511), 0.05
    weights = np.exp(-g - np.exp(-g))
    weights /= weights.sum()
    # H or r G, the variable of larger scale, has its cdf averaged over the other. It is mirrored
    # for r < -1.
    wide = max(1.0, abs(r))
    narrow = 1 / wide if wide > 1 else r
    s = np.arange(-45, 45, step)
    u = s[:, None] - (a - a.max()) / wide  # the axes are points and categories
    mirrored = -1 if r < -1 else 1
    x = np.exp(np.clip(mirrored * (narrow * g - u[..., None]), -700, 60))
    below, above = (np.exp(-x) @ weights, -np.expm1(-x) @ weights)[::mirrored]
    F = np.clip(below, 1e-300, 1)
    f = (x * np.exp(-x)) @ weights
    slope = mirrored * (((x - 1) * x * np.exp(-x)) @ weights)
    # log F comes from the tail with the smaller relative error, which `count` multiplies.
    log_f = np.where(above < 0.5, np.log1p(-np.minimum(above, 0.5)), np.log(F))
    P = np.exp((log_f * count).sum(-1))
    excess = (F[:, a.argmax()] - P).sum() * step
    mean, rest = ((h / F * P[:, None]).sum(0) * step for h in (f, slope))
    return [a.max() + wide * excess + r * np.euler_gamma, mean, mean + rest / wide]


def cdf(r: float, t: float) -> list[Any]:
    """F(t), f(t) and f'(t) of H + r G, by mpmath."""

    def mean(h: Callable[[Any], Any]) -> Any:
        weighted = lambda g: h(mp.exp(r * g - t)) * mp.exp(-g - mp.exp(-g))  # noqa: E731
        return mp.quad(weighted, [-6, -2, 0, 2, 5, 10, 20, 60])

    return [
        mean(lambda x: mp.exp(-x)),
        mean(lambda x: x * mp.exp(-x)),
        mean(lambda x: (x - 1) * x * mp.exp(-x)),
    ]


def bessel_cdf(t: float) -> list[Any]:
    """F(t) and f(t) of H + G: the density of a product of two exponentials is a Bessel function."""
    z = 2 * mp.exp(-mp.mpf(t) / 2)
    return [z * mp.besselk(1, z), z * z / 2 * mp.besselk(0, z)]


def kl_by_fractions(a: Array) -> Any:
    """KL at one temperature, for distinct differences a of the logits: a sum that cancels.

    sum_k exp(a_k) E_k is hypoexponential: a sum of exponential densities whose weights are those of
    partial fractions, up to 1e100 and of both signs, so mpmath computes with enough digits.
    """
    with mp.workdps(60 + 20 * len(a)):
        a = [mp.mpf(float(x)) for x in a]
        k, w = len(a), [mp.exp(x) for x in a]
        c = [mp.fprod(w[i] / (w[i] - w[j]) for j in range(k) if j != i) for i in range(k)]
        total = mp.fdot(c, a)
        return k * (total - mp.euler - mp.digamma(k)) - mp.fsum(a)


def binary_kl(d: float) -> Any:
    """The KL of two logistic distributions d apart, by its definition."""
    log_q = lambda u: -u - 2 * mp.log1p(mp.exp(-u))  # noqa: E731
    f = lambda u: mp.exp(log_q(u)) * (log_q(u) - log_q(u - d))  # noqa: E731
    return mp.quad(f, [-200, -60, -20, -5, 0, 5, 20, 60, 200])


def coth_kl(d: float) -> Any:
    """d coth(d / 2) - 2, with 50 digits."""
    with mp.workdps(50):
        return mp.mpf(d) * mp.coth(mp.mpf(d) / 2) - 2
