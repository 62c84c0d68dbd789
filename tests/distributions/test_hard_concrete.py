"""HardConcrete's masses and density, against the paper's formulas, quadrature in z, and draws.

Statistical checks have a false-alarm rate of 1e-4 each (seeds are fixed by default), and also
reject a wrong distribution.
"""

from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, xlogy

from gates import (
    ALARM,
    HIGH,
    LOW,
    POINTS,
    STEPS,
    Z,
    before,
    density,
    expectation,
    log_prob,
    make,
    masses,
)
from harness import Backend
from numpy_ops import NumpyOps
from relaxed_dists._distributions import hard_concrete


@pytest.mark.parametrize(("low", "high"), [(LOW, HIGH), (-1, 1.02)])
def test_masses_density_and_cdf(backend: Backend, low: float, high: float) -> None:
    """Masses and density are the paper's, to 1e-11, and sum to one.

    A density without the stretch is rejected.
    """
    t, logits = np.array([[0.1], [2 / 3], [3.0]]), np.array([-3.0, 0.0, 1.5])
    distribution = make(backend, t, logits, low=low, high=high)
    zero, one = masses(t, logits, low, high)
    points = np.append(POINTS, [0.0, 1.0])[:, None, None]
    *log_q, at_zero, at_one = log_prob(backend, distribution, points)
    np.testing.assert_allclose(at_zero, np.log(zero), rtol=1e-11)
    np.testing.assert_allclose(at_one, np.log(one), rtol=1e-11)
    np.testing.assert_allclose(backend.numpy(distribution.prob_nonzero), 1 - zero, rtol=1e-11)
    np.testing.assert_allclose(backend.numpy(distribution.prob_one), one, rtol=1e-11)
    paper = density(POINTS[:, None, None], t, logits, low, high)
    np.testing.assert_allclose(np.exp(log_q), paper, rtol=1e-9)
    inside = np.tensordot(STEPS, np.exp(log_q), 1)
    np.testing.assert_allclose(zero + one + inside, 1, rtol=1e-10)
    assert (abs(zero + one + inside * (high - low) - 1) > 1e-3).all()
    sums = (STEPS[:, None, None] * np.exp(log_q)).reshape(len(Z) - 1, -1, 3, 3).sum(1).cumsum(0)
    cdf = backend.numpy(distribution.cdf(backend.array(Z[:, None, None])))
    np.testing.assert_allclose(cdf[0], zero, rtol=1e-11)
    np.testing.assert_allclose(cdf[1:-1], (zero + sums)[:-1], rtol=1e-9)
    assert (cdf[-1] == 1).all()


def test_tails(backend: Backend) -> None:
    """Masses and densities down to exp(-700), where 1 - cdf is 0, agree with mpmath (1e-13)."""
    t, logits, z = 2 / 3, np.array([-700.0, -40.0, 40.0, 700.0]), np.array([1e-9, 0.3, 1 - 1e-9])
    distribution = make(backend, t, logits)
    with mpmath.workdps(350):
        t_, low, high = mpmath.mpf(t), mpmath.mpf(LOW), mpmath.mpf(HIGH)
        d0, d1 = t_ * mpmath.log(-low / high), t_ * mpmath.log((1 - low) / (high - 1))
        zero = [-mpmath.log1p(mpmath.exp(x - d0)) for x in logits]
        one = [-mpmath.log1p(mpmath.exp(d1 - x)) for x in logits]

        def log_q(v: float, x: float) -> mpmath.mpf:
            up, down = mpmath.mpf(v) - low, high - mpmath.mpf(v)
            d = x - t_ * mpmath.log(up / down)
            slope = mpmath.log((high - low) / up / down)
            return mpmath.log(t_) + d - 2 * mpmath.log1p(mpmath.exp(d)) + slope

        inside = [[float(log_q(v, x)) for x in logits] for v in z]
        zero, one = np.array(zero, float), np.array(one, float)
    found = log_prob(backend, distribution, np.append(z, [0.0, 1.0])[:, None])
    np.testing.assert_allclose(found, [*inside, zero, one], rtol=1e-13)
    np.testing.assert_allclose(backend.numpy(distribution.prob_one), np.exp(one), rtol=1e-12)


def test_float32_draws_need_no_more_than_their_number(backend: Backend) -> None:
    """log_prob of float32 values is that in float64, to 2e-6, or 1e-5 at temperature 20.

    At high temperatures the rounding of d = logits - t y is larger, as in every distribution.
    """
    t, logits = np.array([[2.0**-20], [1e-3], [0.1], [2 / 3], [20.0]]), np.array([-2.0, 0.0, 3.0])
    distribution = make(backend, t, logits, "float32")
    draws = backend.numpy(backend.draw(distribution, 0, (2000,)))
    inside = (draws > 0) & (draws < 1)
    assert inside.any((0, 2))[2:].all()
    z = np.where(inside, draws, POINTS[:2000, None, None].astype("float32"))
    t, logits = t.astype("float32").astype(float), logits.astype("float32").astype(float)
    found = log_prob(backend, distribution, z, "float32")
    away = abs(found - np.log(density(z, t, logits))).max((0, 2))
    assert (away < [2e-6, 2e-6, 2e-6, 2e-6, 1e-5]).all(), away


def checks(z: np.ndarray, t: float, logits: float) -> list[float]:
    """The p-values of the numbers of zeros and ones, and of the cdf of the values between."""
    zero, one = masses(t, logits)
    found = [
        stats.binomtest(int((z == k).sum()), len(z), p).pvalue for k, p in enumerate((zero, one))
    ]
    inside = z[(z > 0) & (z < 1)]
    s = before(inside, LOW, HIGH)
    u = (expit(t * np.log(s / (1 - s)) - logits) - zero) / (1 - zero - one)
    return [*found, stats.kstest(u, "uniform").pvalue]


@pytest.mark.parametrize(("t", "logits"), [(2 / 3, 0.5), (3.0, -1.0)])
def test_draws(backend: Backend, t: float, logits: float, seed: int) -> None:
    """100,000 draws pass binomial tests of the masses (to 0.006), and Kolmogorov-Smirnov between.

    A temperature 5 % off, a stretch to 1.12, and a sample that is not clipped are each rejected.
    """

    def draws(t: float, **more: Any) -> np.ndarray:
        return backend.numpy(backend.draw(make(backend, t, logits, **more), seed, (100_000,)))

    right = draws(t)
    assert min(checks(right, t, logits)) > ALARM
    for wrong in (draws(1.05 * t), draws(t, high=1.12), before(right, LOW, HIGH)):
        assert min(checks(wrong, t, logits)) < ALARM


def test_draws_are_made_of_their_noise(backend: Backend) -> None:
    """Draws are the paper's equations 10 and 11 of their noise, by NumPy."""
    rng = np.random.default_rng(0)
    t, logits = np.linspace(0.05, 4, 50), rng.normal(0, 3, 50)

    def paper(noise: np.ndarray) -> np.ndarray:
        return np.clip(expit((logits + noise) / t) * (HIGH - LOW) + LOW, 0, 1)

    distribution = make(backend, t, logits)
    noise = backend.numpy(backend.noise(False, 7, (50,)))
    np.testing.assert_allclose(
        backend.numpy(backend.draw(distribution, 7)), paper(noise), atol=1e-14
    )
    np.testing.assert_allclose(
        backend.numpy(distribution.deterministic),
        np.clip(expit(logits) * (HIGH - LOW) + LOW, 0, 1),
        atol=1e-14,
    )
    u = rng.uniform(size=50)
    quantiles = paper(np.log(u) - np.log1p(-u))
    np.testing.assert_allclose(
        backend.numpy(distribution.icdf(backend.array(u))), quantiles, atol=1e-13
    )
    stretch = hard_concrete.stretch("", LOW, HIGH)
    y, more = (logits + noise) / t, (stretch, 1e-300, 1e-16)
    ours = hard_concrete.hard_concrete(backend.private.ops, backend.array(y), *more)
    numpys = hard_concrete.hard_concrete(NumpyOps(), y, *more)
    np.testing.assert_allclose(backend.numpy(ours), numpys, atol=1e-15)


def test_quantiles_and_cdf_at_the_ends(backend: Backend) -> None:
    """The quantile is the smallest value whose cdf is q or more."""
    distribution = make(backend, 0.5, 0.3)
    zero, one = masses(0.5, 0.3)
    q = np.array([0.0, 0.99 * zero, 1.01 * zero, 1 - 1.01 * one, 1 - 0.99 * one, 1.0])
    z = backend.numpy(distribution.icdf(backend.array(q)))
    assert (z[[0, 1]] == 0).all()
    assert (z[[4, 5]] == 1).all()
    assert (0 < z[2] < z[3] < 1).all()
    np.testing.assert_allclose(
        backend.numpy(distribution.cdf(backend.array(z[2:4]))), q[2:4], rtol=1e-12
    )


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 2e-6)])
def test_moments_entropy_and_kl(backend: Backend, dtype: str, bound: float) -> None:
    """At every temperature, these agree with a quadrature in z, which shares nothing with ours."""
    t = np.array([1e-3, 0.05, 0.5, 2 / 3, 1.5, 30.0]).astype(dtype)[:, None]
    logits = np.array([-30.0, -2.0, 0.0, 5.0]).astype(dtype)
    distribution = make(backend, t, logits, dtype)
    other = make(backend, 0.4, 0.5, dtype)
    t_other = float(np.float64(0.4).astype(dtype))
    ours = [
        distribution.mean,
        distribution.variance,
        distribution.entropy(),
        backend.divergence(distribution, other),
    ]
    there = masses(t_other, 0.5)

    def log_ratio(z: Any, p: Any) -> Any:
        q = there[int(z)] if np.ndim(z) == 0 else density(z, t_other, 0.5)
        return xlogy(1.0, np.maximum(p, 1e-300)) - np.log(q)

    def reference(t: float, x: float) -> list[float]:
        t, x = float(t), float(x)
        mean = expectation(lambda z, p: z, t, x)
        surprise = expectation(lambda z, p: -np.log(np.maximum(p, 1e-300)), t, x)
        variance = expectation(lambda z, p: (z - mean) ** 2, t, x)
        return [mean, variance, surprise, expectation(log_ratio, t, x)]

    expected = np.array(
        [
            [
                reference(
                    *pair,
                )
                for pair in zip(a, b, strict=True)
            ]
            for a, b in zip(*np.broadcast_arrays(t, logits), strict=True)
        ]
    )
    for k, found in enumerate(ours):
        scale = 1 if k < 2 else np.maximum(1, abs(expected[..., k]))
        away = abs(backend.numpy(found) - expected[..., k]) / scale
        assert away.max() < bound, (k, away)


def test_divergences_of_point_masses(backend: Backend) -> None:
    """The KL of point masses is 0, -log of a mass, or infinite where the mass is 0."""
    distribution = make(backend, 0.5, [0.3, 0.3, 0.3])
    sure = backend.names.HardConcrete(0.5, probs=backend.array([0.0, 1.0, 0.0]))
    others = backend.names.HardConcrete(0.5, probs=backend.array([0.0, 0.0, 0.5]))
    zero, one = masses(0.5, 0.3)
    assert abs(backend.kl(distribution, distribution)).max() < 1e-15
    np.testing.assert_allclose(
        backend.kl(sure, distribution), -np.log([zero, one, zero]), rtol=1e-12
    )
    assert (backend.kl(distribution, sure) == np.inf).all()
    np.testing.assert_allclose(
        backend.kl(sure, others), [0, np.inf, -np.log(masses(0.5, 0.0)[0])], rtol=1e-12
    )
