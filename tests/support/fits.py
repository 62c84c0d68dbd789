"""Annealed SVI of the small models, with a guide written by hand, in both frameworks."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from carrying import PPL
from harness import Backend, Jax
from models import Model, Pp, Values

PARTICLES = 50


def mean_field(pp: Pp, model: Model, estimator: Callable[[Any, Any], Any]) -> Callable[..., None]:
    """A guide with logits for each site, and an estimator made of the names and a temperature."""

    def guide(temperature: Any) -> None:
        for name, shape in model.shapes.items():
            logits = pp.ppl.param(f"{name}_logits", pp.array(np.zeros(shape)))
            law = pp.ours.Bernoulli if model.binary else pp.ours.OneHotCategorical
            law = law(logits=logits, estimator=estimator(pp.ours, temperature))
            with pp.ppl.plate(model.plate, shape[0]) if model.plate else nullcontext():
                pp.ppl.sample(name, law.to_event(1) if model.event else law)

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
    """The parameters after annealed SVI, 200 steps whose learning rate falls from 0.3 to 0.01."""
    ppl, _ = PPL[backend.framework]
    infer, svi = importlib.import_module(f"{backend.framework}.infer"), backend.names.AnnealedSVI
    nesting = {} if isinstance(backend, Jax) else {"max_plate_nesting": 1}
    steps, decay = 200, 30 ** (-1 / 200)
    made = getattr(infer, elbo) if isinstance(elbo, str) else elbo
    loss = made(num_particles=particles, vectorize_particles=True, **nesting)
    if isinstance(backend, Jax):
        import jax

        optim = ppl.optim.Adam(lambda step: 0.3 * decay**step)
        annealed = svi(model, guide, optim, loss, schedule)
        # As a whole: what init does would be compiled operation by operation otherwise.
        run = jax.jit(lambda key: annealed.run(key, steps, progress_bar=False).params)
        return run(jax.random.key(seed))
    ppl.clear_param_store()
    ppl.set_rng_seed(seed)
    optim = ppl.optim.ClippedAdam({"lr": 0.3, "lrd": decay, "clip_norm": 1e9})
    annealed = svi(model, guide, optim, loss, schedule)
    for _ in range(steps):
        annealed.step()
    return dict(ppl.get_param_store())


def nuts(backend: Backend, model: Callable[[], None], seed: int) -> dict[str, Any]:
    """25 draws of 50 copies, after 40 of a warm-up, by trajectories of up to 15 steps.

    The copies are independent in the posterior: as many chains, which share the step size.
    """
    ppl, _ = PPL[backend.framework]
    infer = importlib.import_module(f"{backend.framework}.infer")

    def copies() -> None:
        with ppl.plate("copies", 50, dim=-2):
            model()

    kernel, options = infer.NUTS(copies, max_tree_depth=4), {"num_samples": 25}
    if isinstance(backend, Jax):
        import jax

        chain = infer.MCMC(kernel, num_warmup=40, progress_bar=False, **options)

        def run(key: Any) -> dict[str, Any]:
            chain.run(key)
            return chain.get_samples()

        return jax.jit(run)(jax.random.key(seed))
    ppl.set_rng_seed(seed)
    chain = infer.MCMC(kernel, warmup_steps=40, disable_progbar=True, **options)
    chain.run()
    return chain.get_samples()


def log_joint(backend: Backend, model: Callable[[], None], values: Values) -> float:
    """The log joint of a program at the values of its latent sites."""
    _, handlers = PPL[backend.framework]
    given = {name: backend.array(value) for name, value in values.items()}
    if isinstance(backend, Jax):
        from numpyro.infer.util import log_density

        return float(log_density(model, (), {}, given)[0])
    return float(handlers.trace(handlers.condition(model, given)).get_trace().log_prob_sum())
