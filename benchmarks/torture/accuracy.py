"""Accuracy: log_prob and its gradients against mpmath at 50 digits, and own draws' densities."""

import warnings
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
from scipy.special import expit, gammaln, log_softmax, logit, logsumexp

from benchmarks.torture.grid import FRAMEWORKS, FULL
from benchmarks.torture.subjects import Subject

MEASURES = ("log_prob", "log_prob far out", "own draws", "gradients")
# The largest allowed |error| / max(1, |reference|), for each of MEASURES. The bound of log_prob is
# for logits of scale up to 1 and temperatures up to 1, "far out" is beyond. There the scores
# s = logits - t log x are in the hundreds, so their rounding errors are larger; a gradient,
# 1 - K softmax(s), has these as its relative error. On the simplex, sums in the tens cancel where
# the density is near 1: at other points than the tested ones errors reach 9e-15.
BOUNDS = {"float32": (4e-6, 4e-5, 1e-4, 4e-5), "float64": (4e-15, 4e-14, 1e-13, 4e-14)}
STANDARD = 8  # temperature of draws that noise is computed from: none is near an edge


def reference(space: str, logits: Any, t: float, value: Any) -> tuple[Any, Any, Any]:
    """log_prob and its derivatives by the logits and the temperature, at one point."""
    with mpmath.workdps(50):
        t = mpmath.mpf(float(t))
        l_, x = ([mpmath.mpf(float(a)) for a in np.ravel(b)] for b in (logits, value))
        if space in ("logit", "unit"):
            y = x[0] if space == "logit" else mpmath.log(x[0]) - mpmath.log1p(-x[0])
            d = l_[0] - t * y
            density = mpmath.log(t) + d - 2 * mpmath.log1p(mpmath.exp(d))
            if space == "unit":
                density -= mpmath.log(x[0]) + mpmath.log1p(-x[0])
            slope = mpmath.tanh(-d / 2)  # 1 - 2 sigmoid(d)
            return float(density), [float(slope)], float(1 / t - y * slope)
        y, k = x if space == "log" else [mpmath.log(a) for a in x], len(x)
        s = [a - t * b for a, b in zip(l_, y, strict=True)]
        top = max(s)
        p = [mpmath.exp(a - top) for a in s]
        total = mpmath.fsum(p)
        density = mpmath.loggamma(k) + (k - 1) * mpmath.log(t)
        density += mpmath.fsum(s) - k * (top + mpmath.log(total))
        if space == "simplex":
            density -= mpmath.fsum(y)
        p = [a / total for a in p]
        mean = mpmath.fsum(a * b for a, b in zip(p, y, strict=True))
        by_t = (k - 1) / t - mpmath.fsum(y) + k * mean
        return float(density), [float(1 - k * a) for a in p], float(by_t)


def points(space: str, dtype: str, quick: bool) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
    """Logits, a temperature and values in the dtype: half own draws, half from a flat density.

    All values are normal numbers inside the support: any other draw is replaced by a flat point.
    The quick part has half as many points in a row. It has the first, the last and every second
    temperature, so that each temperature occurs with one of the two numbers of categories.
    """
    tiny = float(np.finfo(dtype).tiny)
    one_hot = space in ("log", "simplex")
    for k, n in (
        ((2, 8), (10, 8 if one_hot else 32)) if quick else ((2, 16), (3, 16), (10, 16), (1000, 1))
    ):
        if not (one_hot or k == 10):
            continue
        scales = np.tile(np.repeat([0, 1, 10], n), 2)
        temperatures = FULL.temperatures[2]
        if quick:
            inner = temperatures[1 if k == 10 else 2 : -1 : 2]
            temperatures = (temperatures[0], *inner, temperatures[-1])
        for t in temperatures:
            rng = np.random.default_rng(k)
            if one_hot:
                logits = rng.normal(size=(len(scales), k)) * scales[:, None]
                own = log_softmax((logits + rng.gumbel(size=logits.shape)) / t, -1)
                flat = np.log(rng.dirichlet(np.ones(k), len(scales)))
                inside = (own > np.log(tiny)).all(-1, keepdims=True) | (space == "log")
            else:
                logits = rng.normal(size=len(scales)) * scales
                own = (logits + rng.logistic(size=len(scales))) / t
                flat = rng.logistic(size=len(scales))
                inside = (abs(own) < 15) | (space == "logit")
            half = np.arange(len(scales)).reshape(inside.shape) % 2 == 0
            y = np.where(inside & half, own, flat)
            value = {"simplex": np.exp, "unit": expit}.get(space, np.array)(y).astype(dtype)
            yield logits.astype(dtype), np.asarray(t).astype(dtype), value


def own_density(space: str, logits: np.ndarray, t: float, standard: np.ndarray) -> np.ndarray:
    """The log density of a draw from its noise, which a draw of the same seed at logits 0 gives.

    It is lgamma(K) + (K-1) log t + sum log E - K log sum E, with E_k ~ Exp(1): a factor of all E_k
    cancels.
    """
    if space in ("logit", "unit"):
        noise = STANDARD * (standard if space == "logit" else logit(standard))
        y = (logits + noise) / t
        density = np.log(t) - noise - 2 * np.logaddexp(0, -noise)
        return density + (np.logaddexp(0, y) + np.logaddexp(0, -y)) * (space == "unit")
    noise = STANDARD * (standard if space == "log" else np.log(standard))
    k = noise.shape[-1]
    density = gammaln(k) + (k - 1) * np.log(t) - noise.sum(-1) - k * logsumexp(-noise, -1)
    return density - log_softmax((logits + noise) / t, -1).sum(-1) * (space == "simplex")


def worst(actual: np.ndarray, expected: np.ndarray, scale: Any = 0) -> float:
    """The largest |error| / max(1, |reference|); infinite where there is no finite number."""
    error = abs(actual - expected) / np.maximum(1, np.maximum(abs(expected), scale))
    return float(np.where(np.isfinite(error), error, np.inf).max(initial=0))


def measure(subject: Subject, dtype: str, quick: bool) -> tuple[float, ...]:
    """The largest errors of a subject, in the order of MEASURES."""
    framework = FRAMEWORKS[subject.backend]()
    largest = np.zeros(len(MEASURES))
    with framework.precision(dtype), warnings.catch_warnings():
        if not subject.ours:
            warnings.simplefilter("ignore")
        for seed, (logits, t, value) in enumerate(points(subject.space, dtype, quick)):
            exact = [reference(subject.space, a, t, x) for a, x in zip(logits, value, strict=True)]
            density, by_logits, by_t = (np.array(x) for x in zip(*exact, strict=True))
            arrays = [framework.array(x, dtype) for x in (t, logits, value)]
            ours, t_gradient, gradient = framework.score(subject, *arrays)
            d = subject.make(*arrays[:2], False)
            own = framework.numpy(d.log_prob(framework.draw(d, seed)))
            plain = [framework.array(x, dtype) for x in (STANDARD, np.zeros_like(logits))]
            standard = framework.numpy(framework.draw(subject.make(*plain, False), seed))
            expected = own_density(subject.space, logits.astype(float), float(t), standard)
            wide = np.tile(np.repeat([False, False, True], len(density) // 6), 2) | (t > 1)
            errors = (
                worst(ours[~wide], density[~wide]),
                worst(ours[wide], density[wide]),
                # The noise computed from a draw is right to a few ulp. The temperature divides this
                # error where the density depends on the value itself, not only on the noise.
                worst(own, expected, 1 / t if subject.space in ("simplex", "unit") else 0),
                max(
                    worst(gradient, by_logits.reshape(gradient.shape)),
                    worst(t_gradient, by_t.sum(), abs(by_t).sum()),
                ),
            )
            largest = np.maximum(largest, errors)
    return tuple(largest)
