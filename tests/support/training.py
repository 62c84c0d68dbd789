"""One small model with its guide, ELBOs and optimisers, for tests of AnnealedSVI."""

from collections.abc import Callable
from typing import Any

import numpy as np

from harness import Backend, Lazy, numpyro, pyro, torch

optax = Lazy("optax")
DATA = np.random.default_rng(0).normal(0, 1.5, 12)

ELBOS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "pyro": {
        "one particle": ("Trace_ELBO", {}),
        "particles one by one": ("Trace_ELBO", {"num_particles": 3}),
        "particles at once": ("Trace_ELBO", {"num_particles": 3, "vectorize_particles": True}),
        "mean field": ("TraceMeanField_ELBO", {}),
        "Renyi": ("RenyiELBO", {"num_particles": 3, "vectorize_particles": True}),
        "graph": ("TraceGraph_ELBO", {}),
    },
    "numpyro": {
        "one particle": ("Trace_ELBO", {}),
        "particles one by one": ("Trace_ELBO", {"num_particles": 3, "vectorize_particles": False}),
        "particles at once": ("Trace_ELBO", {"num_particles": 3}),
        "mean field": ("TraceMeanField_ELBO", {}),
        "Renyi": ("RenyiELBO", {"num_particles": 3}),
        "graph": ("TraceGraph_ELBO", {}),
        "samples of the guide": ("Trace_ELBO", {"multi_sample_guide": True}),
    },
}


# ELBOs of which Pyro has a compiled version too, JitTrace_ELBO and so on.
COMPILED = ["Trace_ELBO", "TraceMeanField_ELBO", "TraceGraph_ELBO"]
OPTIMISERS: dict[str, dict[str, Callable[[], Any]]] = {
    "pyro": {
        "adam": lambda: pyro.optim.Adam({"lr": 0.05}),
        "clipped adam": lambda: pyro.optim.ClippedAdam({"lr": 0.05, "clip_norm": 0.1, "lrd": 0.9}),
        "adam of clipped": lambda: pyro.optim.Adam({"lr": 0.05}, {"clip_norm": 0.1}),
        "scheduler": lambda: pyro.optim.StepLR(
            {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "step_size": 2, "gamma": 0.9}
        ),
    },
    "numpyro": {
        "adam": lambda: numpyro.optim.Adam(0.05),
        "clipped adam": lambda: numpyro.optim.ClippedAdam(0.05, clip_norm=0.1),
        "adam of clipped": lambda: optax.chain(optax.clip(0.1), optax.adam(0.05)),
        "scheduler": lambda: optax.adam(optax.exponential_decay(0.1, 2, 0.9)),
    },
}


def elbo(backend: Backend, kind: str) -> Any:
    """An ELBO of the table ELBOS."""
    name, options = ELBOS[backend.framework][kind]
    return backend.language.make_elbo(name, **options)


class Sides:
    """A model and a guide with two temperatures, on minibatches; they count their calls.

    The temperatures are scales of Normals here: AnnealedSVI does not look at the distributions, and
    Normals compile fast.
    """

    def __init__(self, backend: Backend, minibatch: int | None = None, samples: int = 0) -> None:
        self.ppl, self.normal = backend.ppl, backend.dist.Normal
        self.array = backend.array
        self.minibatch, self.samples, self.calls = minibatch, samples, 0

    def rows(self) -> Any:
        """The plate of the data."""
        return self.ppl.plate("rows", len(DATA), subsample_size=self.minibatch)

    def model(self, x: Any, temperature: Any) -> None:
        """Each row has a location of its own, around zero."""
        self.calls += 1
        with self.rows() as i:
            z = self.ppl.sample("z", self.normal(self.array(0.0), temperature["prior"]))
            self.ppl.sample("x", self.normal(z, self.array(1.0)), obs=x[i])

    def guide(self, x: Any, temperature: Any) -> None:
        """A location for each row, and one positive scale for all rows."""
        locs = self.ppl.param("locs", self.array(np.zeros(len(DATA))))
        positive = self.ppl.distributions.constraints.positive
        scale = self.ppl.param("scale", self.array(1.0), constraint=positive)
        with self.rows() as i:
            d = self.normal(locs[i], scale * temperature["posterior"])
            self.ppl.sample("z", d.expand([self.samples, *i.shape]) if self.samples else d)
