"""HardConcrete in closed form: the paper's masses and density, and expectations over both."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit

from harness import Backend
from numpy_ops import binary_concrete_density

ALARM = 1e-4
LOW, HIGH = -0.1, 1.1
Z = np.unique(np.concatenate([np.linspace(0, 1, 1001), np.logspace(-12, -3, 200)]))
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
POINTS = (Z[:-1, None] + (NODES + 1) / 2 * np.diff(Z)[:, None]).ravel()
STEPS = (WEIGHTS / 2 * np.diff(Z)[:, None]).ravel()


def make(backend: Backend, t: Any, logits: Any, dtype: str = "float64", **more: Any) -> Any:
    """A HardConcrete distribution whose parameters are given in NumPy."""
    parameters = backend.array(t, dtype), backend.array(logits, dtype)
    return backend.names.HardConcrete(parameters[0], logits=parameters[1], **more)


def log_prob(backend: Backend, d: Any, z: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """The distribution's log_prob at z, compiled by jax.jit in NumPyro."""
    return backend.numpy(backend.compiled(lambda v: d.log_prob(v))(backend.array(z, dtype)))


def before(z: np.ndarray, low: float, high: float) -> np.ndarray:
    """The relaxed Bernoulli value that is stretched to z."""
    return (z - low) / (high - low)


def masses(t: Any, logits: Any, low: float = LOW, high: float = HIGH) -> tuple[Any, Any]:
    """P(z = 0) and P(z = 1), by the cdf of the relaxed Bernoulli, sigmoid(t logit(s) - logits)."""
    zero, one = (np.log(s / (1 - s)) for s in (before(0.0, low, high), before(1.0, low, high)))
    return expit(t * zero - logits), expit(logits - t * one)


def density(z: np.ndarray, t: Any, logits: Any, low: float = LOW, high: float = HIGH) -> Any:
    """The paper's equation 8: the binary concrete density before the stretch, over its slope."""
    s = before(z, low, high)
    return binary_concrete_density(np.asarray(logits), np.asarray(t), s) / (high - low)


def expectation(f: Callable[[Any], Any], t: float, logits: float) -> float:
    """E f(z): two masses, and Gauss-Legendre between them. f gets z and its density or mass."""
    zero, one = masses(t, logits)
    inside = density(POINTS, t, logits)
    return zero * f(0.0, zero) + one * f(1.0, one) + (STEPS * inside * f(POINTS, inside)).sum()


def slack(terms: np.ndarray) -> np.ndarray:
    """How far a mean may be from its expectation: about 4 standard errors."""
    return stats.norm.isf(ALARM / 2) * terms.std(0) / np.sqrt(len(terms))
