"""Training an automatic guide and asking it for its laws, in both frameworks."""

import importlib
from typing import Any

import numpy as np

from harness import Backend
from relaxed_dists.schedules import linear


def infer(backend: Backend) -> Any:
    """The framework's inference."""
    return importlib.import_module(f"{backend.framework}.infer")


def guides(backend: Backend) -> Any:
    """The framework's own autoguides."""
    return importlib.import_module(f"{backend.framework}.infer.autoguide")


def block(backend: Backend, model: Any, hide: list[str]) -> Any:
    """The framework's block."""
    name = "pyro.poutine" if backend.framework == "pyro" else "numpyro.handlers"
    return importlib.import_module(name).block(model, hide=hide)


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
    """Parameters (none in Pyro, whose guide holds them) and losses; no stop, no schedule."""
    options: dict[str, Any] = {"num_particles": particles, "vectorize_particles": particles > 1}
    schedule = () if stop is None else (linear(1.0, stop, steps),)
    svi_class = svi_class or backend.names.AnnealedSVI
    if backend.framework == "pyro":
        ppl = importlib.import_module("pyro")
        ppl.clear_param_store()
        ppl.set_rng_seed(seed)
        elbo = infer(backend).TraceMeanField_ELBO(max_plate_nesting=2, **options)
        optim = importlib.import_module("pyro.optim").Adam({"lr": 0.05})
        svi = svi_class(model, guide, optim, elbo, *schedule)
        return {}, [svi.step() for _ in range(steps)]
    jax = importlib.import_module("jax")
    elbo = infer(backend).TraceMeanField_ELBO(**options)
    optim = importlib.import_module("numpyro.optim").Adam(0.05)
    svi = svi_class(model, guide, optim, elbo, *schedule)

    def run(key: Any) -> Any:
        result = svi.run(key, steps, progress_bar=False)
        return result.params, result.losses

    # As a whole, except where a framework's own guide would keep what init computes.
    own = isinstance(guide, backend.names.AutoRelaxed) and guide.continuous is None
    params, losses = (jax.jit(run) if own else run)(jax.random.key(seed))
    return params, losses.tolist()


def of(backend: Backend, guide: Any, method: str, params: dict[str, Any], *args: Any) -> Any:
    """A method of a guide, in each framework's way."""
    return getattr(guide, method)(*([] if backend.framework == "pyro" else [params]), *args)


def probs(backend: Backend, guide: Any, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """The guide's discrete laws."""
    laws = of(backend, guide, "discrete_posterior", params)
    return {k: backend.numpy(getattr(law, "base_dist", law).probs) for k, law in laws.items()}


def gap(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The greatest difference of two laws' probabilities."""
    return float(max(abs(got[k] - p).max() for k, p in expected.items()))
