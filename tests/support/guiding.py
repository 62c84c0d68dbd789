"""Helpers that train an automatic guide and get its discrete distributions."""

from typing import Any

import numpy as np

from harness import Backend
from relaxed_dists.schedules import linear


def fit(
    backend: Backend,
    model: Any,
    guide: Any,
    seed: int,
    steps: int = 250,
    stop: float | None = 0.1,
    particles: int = 8,
    svi_class: Any = None,
) -> tuple[dict[str, Any], list[float]]:
    """The guide's parameters and the losses; without `stop` there is no temperature schedule."""
    say, ours = backend.language, backend.names
    options: dict[str, Any] = {"num_particles": particles, "vectorize_particles": particles > 1}
    elbo = say.make_elbo("TraceMeanField_ELBO", 2, **options)
    schedule = () if stop is None else (linear(1.0, stop, steps),)
    svi = (svi_class or ours.AnnealedSVI)(model, guide, say.adam(0.05), elbo, *schedule)
    # Not compiled with a continuous guide, which is the framework's: it keeps arrays that init
    # computes, and under jax.jit these would be tracers.
    whole = isinstance(guide, ours.AutoRelaxed) and guide.continuous is None
    return say.fit(svi, steps, seed, whole)


def probs(backend: Backend, guide: Any, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """The probabilities of the guide's discrete distributions."""
    found = backend.language.ask(guide, "discrete_posterior", params)
    return {k: backend.numpy(getattr(d, "base_dist", d).probs) for k, d in found.items()}


def gap(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The greatest difference of the probabilities of two sets of distributions."""
    return float(max(abs(got[k] - p).max() for k, p in expected.items()))
