"""Annealed SVI of the small models, with a guide written by hand, in both frameworks."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from harness import Backend, Jax
from models import Model

PARTICLES = 50


def mean_field(
    backend: Backend, model: Model, estimator: Callable[[Any, Any], Any]
) -> Callable[..., None]:
    """A guide with logits for each site, and an estimator made at the guide's temperature."""
    ppl, ours = backend.ppl, backend.names

    def guide(temperature: Any) -> None:
        for name, shape in model.shapes.items():
            logits = ppl.param(f"{name}_logits", backend.array(np.zeros(shape)))
            cls = ours.Bernoulli if model.binary else ours.OneHotCategorical
            d = cls(logits=logits, estimator=estimator(ours, temperature))
            with ppl.plate(model.plate, shape[0]) if model.plate else nullcontext():
                ppl.sample(name, d.to_event(1) if model.event else d)

    return guide


def fit(
    backend: Backend,
    model: Callable[..., None],
    guide: Callable[..., None],
    schedule: Callable[[Any], Any],
    seed: int,
    elbo: str | Callable[..., Any] = "TraceMeanField_ELBO",
    particles: int = PARTICLES,
) -> dict[str, Any]:
    """The parameters after 200 steps of AnnealedSVI, whose learning rate falls from 0.3 to 0.01."""
    say, steps, decay = backend.language, 200, 30 ** (-1 / 200)
    loss = say.make_elbo(elbo, num_particles=particles, vectorize_particles=True)
    if isinstance(backend, Jax):
        optim = backend.optim.Adam(lambda step: 0.3 * decay**step)
    else:
        optim = backend.optim.ClippedAdam({"lr": 0.3, "lrd": decay, "clip_norm": 1e9})
    svi = backend.names.AnnealedSVI(model, guide, optim, loss, schedule)
    return say.fit(svi, steps, seed)[0]


def nuts(backend: Backend, model: Callable[[], None], seed: int) -> dict[str, Any]:
    """25 posterior draws by NUTS of 50 copies of a model, after 40 warm-up draws.

    The copies are independent in the posterior, like 50 chains that share one step size. A tree
    depth of 4 limits a trajectory to 15 steps.
    """

    def copies() -> None:
        with backend.ppl.plate("copies", 50, dim=-2):
            model()

    kernel = backend.infer.NUTS(copies, max_tree_depth=4)
    return backend.language.mcmc(kernel, seed, samples=25, warmup=40)
