"""The models of the table in NumPyro."""

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import Trace_ELBO, TraceMeanField_ELBO

from benchmarks.table1.data import Images
from benchmarks.table1.runs import CLASSES, PIXELS, UNITS, Array, Run
from relaxed_dists.numpyro import (
    AnnealedSVI,
    Bernoulli,
    EvidenceBounds,
    GumbelRao,
    GumbelSoftmax,
    LeaveOneOut_ELBO,
    OneHotCategorical,
    ReinMax,
    evidence_bounds,
)
from relaxed_dists.schedules import constant, exponential

ESTIMATORS = {
    "soft": partial(GumbelSoftmax, hard=False),
    "st": GumbelSoftmax,
    "reinmax": lambda temperature: ReinMax(),
    "rao": GumbelRao,
    "loo": lambda temperature: None,
}


def dense(name: str, x: jax.Array, width: int, bias: Any = None) -> jax.Array:
    """A linear layer, whose weights have torch's initial distribution."""
    bound = x.shape[-1] ** -0.5
    draw = partial(jax.random.uniform, minval=-bound, maxval=bound)
    weight = numpyro.param(f"{name}.weight", partial(draw, shape=(x.shape[-1], width)))
    start = partial(draw, shape=(width,)) if bias is None else bias
    return x @ weight + numpyro.param(f"{name}.bias", start)


class Network:
    """What both tasks share: a layer of latent variables, and the pixels."""

    def __init__(self, run: Run, frequencies: Array) -> None:
        self.run = run
        self.mean = jnp.asarray(frequencies)
        self.estimator = ESTIMATORS[run.estimator]

    def layer(self, name: str, logits: jax.Array, estimator: Any = None) -> jax.Array:
        """A layer of latent variables, flat."""
        if self.run.model.latent == "bernoulli":
            d = Bernoulli(logits=logits, estimator=estimator)
            return numpyro.sample(name, d.to_event(1))
        logits = logits.reshape(*logits.shape[:-1], -1, CLASSES)
        z = numpyro.sample(name, OneHotCategorical(logits=logits, estimator=estimator).to_event(1))
        return z.reshape(*z.shape[:-2], UNITS)

    def pixels(self, h: jax.Array, x: jax.Array) -> None:
        """The last pixels of an image, as many as x has; at first around the mean image."""
        bias = jax.scipy.special.logit(self.mean[-x.shape[-1] :])
        logits = dense("output", h, x.shape[-1], bias)
        numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


class SBN(Network):
    """The lower half of an image from its upper half, by two layers of latent variables."""

    def layers(self, images: jax.Array, temperature: Any) -> jax.Array:
        """The two layers, which are the guide: the paper draws them from the model itself."""
        h = images[:, : PIXELS // 2] - self.mean[: PIXELS // 2]
        for name in ("h1", "h2"):
            h = self.layer(name, dense(name, h, UNITS), self.estimator(temperature))
        return h

    def guide(self, images: jax.Array, temperature: Any) -> None:
        """The latent variables."""
        with numpyro.plate("images", len(images)):
            self.layers(images, temperature)

    def model(self, images: jax.Array, temperature: Any) -> None:
        """The latent variables, and the lower half of the image."""
        with numpyro.plate("images", len(images)):
            self.pixels(self.layers(images, temperature), images[:, PIXELS // 2 :])


class VAE(Network):
    """A variational autoencoder, whose encoder is linear."""

    def guide(self, images: jax.Array, temperature: Any) -> None:
        """The code of an image."""
        with numpyro.plate("images", len(images)):
            logits = dense("encoder", images - self.mean, UNITS)
            self.layer("z", logits, self.estimator(temperature))

    def model(self, images: jax.Array) -> None:
        """A code, in which all classes are equally likely, and its image."""
        with numpyro.plate("images", len(images)):
            h = self.layer("z", jnp.zeros(UNITS))
            if self.run.model.hidden:
                h = jnp.tanh(dense("decoder", h, self.run.model.hidden))
            self.pixels(h, images)


def network(run: Run, frequencies: Array) -> Any:
    """The run's model and guide."""
    return (SBN if run.model.task == "sbn" else VAE)(run, frequencies)


def bounds_of(
    run: Run, frequencies: Array, params: dict[str, Any], images: Array, samples: int
) -> EvidenceBounds:
    """The bounds of the discrete model with the given parameters, summed over the images."""
    made, x = network(run, frequencies), jnp.asarray(images, float)
    how = {"num_samples": samples, "progress_bar": False}
    return evidence_bounds(jax.random.key(0), params, made.model, made.guide, x, **how)


class Training:
    """A training on images that stay on the device, a compiled epoch at a time."""

    def __init__(self, run: Run, images: Images) -> None:
        self.run, self.frequencies = run, images.frequencies()
        made = network(run, self.frequencies)
        loss: Any = Trace_ELBO() if run.model.task == "sbn" else TraceMeanField_ELBO()
        if run.estimator == "loo":
            loss = LeaveOneOut_ELBO(2, vectorize_particles=True)
        sbn = run.model.task == "sbn"
        self.schedule = constant(1.0) if sbn else exponential(1.0, rate=1e-4, floor=0.5, every=500)
        optim = optax.adam(optax.cosine_decay_schedule(run.rate, run.steps))
        self.svi = AnnealedSVI(made.model, made.guide, optim, loss, self.schedule)
        self.images = jnp.asarray(images.train)
        start = jnp.asarray(images.train[:2], float)
        self.state = self.svi.init(jax.random.key(run.seed), start)

        @jax.jit
        def epoch(state: Any, images: jax.Array, order: jax.Array) -> Any:
            def step(state: Any, rows: jax.Array) -> Any:
                return self.svi.update(state, images[rows].astype(float))

            return jax.lax.scan(step, state, order)

        self._epoch = epoch

    @property
    def steps(self) -> int:
        """The number of steps taken so far."""
        return int(self.state.optim_state[0])

    def epoch(self, order: Array) -> float:
        """Take a step for each row of image indices; return the mean loss of an image."""
        self.state, losses = self._epoch(self.state, self.images, order)
        return float(losses.mean()) / order.shape[1]

    def bounds(self, images: Array, samples: int) -> EvidenceBounds:
        """The bounds of the discrete model, summed over the images."""
        params = self.svi.get_params(self.state)
        return bounds_of(self.run, self.frequencies, params, images, samples)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        self.svi.save(path, self.state)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint."""
        self.state = self.svi.load(path, self.state)
