"""Reference integrals for moments, entropies and KL divergences, by separate methods."""

import functools
from collections.abc import Callable

import mpmath
import numpy as np
from scipy import special, stats


def plane(t: float, number: int = 801) -> tuple[np.ndarray, np.ndarray]:
    """Log ratios of three categories, and points of their plane as logs of points of the simplex.

    The points outside the grid have a mass below 1e-12.
    """
    axis = np.linspace(-60, 60, number) / t
    u, v = np.meshgrid(axis, axis)
    return axis, special.log_softmax(np.stack([u, v, np.zeros_like(u)], -1), -1)


def over_plane(axis: np.ndarray, f: np.ndarray) -> float:
    """The integral of a function on the plane by an even grid, precise for analytic functions."""
    return f.sum() * (axis[1] - axis[0]) ** 2


def log_density(logits: np.ndarray, t: float, points: np.ndarray) -> np.ndarray:
    """The density of three categories in log space, by Maddison et al.'s appendix C.3."""
    scores = special.log_softmax(logits - t * points, -1)
    return special.gammaln(3) + 2 * np.log(t) + scores.sum(-1)


def binary_expectation(f: Callable[[np.ndarray], np.ndarray], d: float, t: float) -> float:
    """E f(y) at y = (d + L) / t for a logistic L, on an even grid of the narrower scale."""
    step = min(t, 1.0) / 6
    x = np.arange(-60, 60, step)
    return float((f((d + x) / t) * stats.logistic.pdf(x)).sum() * step)


@functools.cache
def grouped_moments(
    given_values: tuple[float, ...], given_counts: tuple[int, ...], t: float
) -> np.ndarray:
    """Mean and second moment of one category of each group of equal logits, by sums over a grid.

    G and H are standard Gumbel variables. The distribution of G + t H is found by convolution in
    the narrower variable, on 4,001 by 4,001 points.
    """
    values, counts = np.array(given_values), np.array(given_counts)
    scale, narrow = max(1.0, t), min(t, 1 / t)
    z = np.linspace(-40, 50, 4001)
    g = np.linspace(-4, 42, 4001)
    weights = np.exp(-g - np.exp(-g)) * (g[1] - g[0])

    def tables(at: np.ndarray) -> tuple[np.ndarray, ...]:
        cdf, density, slope = (np.empty_like(at) for _ in range(3))
        for i, point in enumerate(at):
            x = np.exp(np.minimum(narrow * g - point, 300))
            below = np.exp(-x) * weights
            x = np.minimum(x, 1e100)
            cdf[i], density[i], slope[i] = (
                below.sum(),
                (x * below).sum(),
                ((x * x - x) * below).sum(),
            )
        return cdf, density, slope

    offsets = (values - values.max()) / scale
    groups = [tables(z - offset) for offset in offsets]
    log_p = sum(
        n * np.log(np.maximum(cdf, 1e-300)) for n, (cdf, _, _) in zip(counts, groups, strict=True)
    )
    moments = []
    for cdf, density, slope in groups:
        share = np.exp(log_p - np.log(np.maximum(cdf, 1e-300)))
        mean = (density * share).sum() * (z[1] - z[0])
        moments.append((mean, mean + min(1.0, t) * (slope * share).sum() * (z[1] - z[0])))
    return np.array(moments)


def kl_at_one_temperature(logits: np.ndarray, other: np.ndarray) -> float:
    """The KL K (E log sum_k w_k E_k - digamma(K)) - sum log w, at 80 digits.

    w is the ratio of the weights, and the E_k are standard exponentials. For distinct w, the
    density of sum_k w_k E_k is a sum of partial fractions.
    """
    with mpmath.workdps(80):
        a = [
            mpmath.mpf(float(y)) - mpmath.mpf(float(x)) for x, y in zip(logits, other, strict=True)
        ]
        w, k = [mpmath.exp(x) for x in a], len(a)
        total = mpmath.mpf(0)
        for i in range(k):
            share = mpmath.fprod(w[i] / (w[i] - w[j]) for j in range(k) if j != i)
            total += share * (a[i] - mpmath.euler)
        return float(k * (total - mpmath.digamma(k)) - mpmath.fsum(a))
