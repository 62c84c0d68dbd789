"""The models of the table in NumPyro."""

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import optax
from numpyro import handlers, infer

import relaxed_dists.numpyro as ours
from benchmarks.table1.data import Images
from benchmarks.table1.runs import BATCH, PIXELS, UNITS, Array, Run


def dense(name: str, x: jax.Array, width: int, bias: Any = None) -> jax.Array:
    """A linear layer, whose weights have torch's initial distribution."""
    bound = x.shape[-1] ** -0.5
    draw = partial(jax.random.uniform, minval=-bound, maxval=bound)
    weight = numpyro.param(f"{name}.weight", partial(draw, shape=(x.shape[-1], width)))
    start = partial(draw, shape=(width,)) if bias is None else bias
    return x @ weight + numpyro.param(f"{name}.bias", start)


class Network:
    """What all tasks share: a layer of latent variables, and the pixels."""

    kinds: Any = (ours.Bernoulli, ours.OneHotCategorical)

    def __init__(self, run: Run, frequencies: Array) -> None:
        self.run = run
        self.mean = jnp.asarray(frequencies)
        self.estimator = run.estimator_of(ours)

    def layer(self, name: str, logits: jax.Array, **how: Any) -> jax.Array:
        """A layer of latent variables, flat."""
        binary, one_hot = self.kinds
        if self.run.model.latent == "bernoulli":
            return numpyro.sample(name, binary(logits=logits, **how).to_event(1))
        logits = logits.reshape(*logits.shape[:-1], -1, self.run.model.classes)
        z = numpyro.sample(name, one_hot(logits=logits, **how).to_event(1))
        return z.reshape(*z.shape[:-2], -1)

    def pixels(self, h: jax.Array, x: jax.Array) -> None:
        """The last pixels of an image, as many as x has; at first around the mean image."""
        bias = jax.scipy.special.logit(self.mean[-x.shape[-1] :])
        logits = dense("output", h, x.shape[-1], bias)
        numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


class SBN(Network):
    """The lower half of an image from its upper half, by two layers of latent variables."""

    def __init__(self, run: Run, frequencies: Array) -> None:
        super().__init__(run, frequencies)
        # The paper draws the latent variables from the model itself.
        self.guide = handlers.block(self.model, hide=["x"])

    def model(self, images: jax.Array, temperature: Any) -> None:
        """The latent variables, and the lower half of the image."""
        with numpyro.plate("images", len(images)):
            h = images[:, : PIXELS // 2] - self.mean[: PIXELS // 2]
            for name in ("h1", "h2"):
                h = self.layer(name, dense(name, h, UNITS), estimator=self.estimator(temperature))
            self.pixels(h, images[:, PIXELS // 2 :])


class VAE(Network):
    """A variational autoencoder, whose encoder is linear."""

    def guide(self, images: jax.Array, temperature: Any) -> None:
        """The code of an image."""
        with numpyro.plate("images", len(images)):
            logits = dense("encoder", images - self.mean, UNITS)
            self.layer("z", logits, estimator=self.estimator(temperature))

    def model(self, images: jax.Array) -> None:
        """A code, in which all classes are equally likely, and its image."""
        with numpyro.plate("images", len(images)):
            h = self.layer("z", jnp.zeros(UNITS))
            if self.run.model.hidden:
                h = jnp.tanh(dense("decoder", h, self.run.model.hidden))
            self.pixels(h, images)


class RelaxedVAE(Network):
    """A variational autoencoder whose codes are relaxed, in the model too; its prior is learned."""

    kinds = (ours.RelaxedBernoulli, ours.RelaxedOneHotCategorical)

    def guide(self, images: jax.Array, temperature: Any) -> None:
        """The code of an image."""
        with numpyro.plate("images", len(images)):
            logits = dense("encoder", images - self.mean, self.run.model.units)
            self.layer("z", logits, temperature=temperature["guide"])

    def model(self, images: jax.Array, temperature: Any) -> None:
        """A code and its image."""
        prior = numpyro.param("prior", jnp.zeros(self.run.model.units))
        with numpyro.plate("images", len(images)):
            h = self.layer("z", prior, temperature=temperature["model"])
            self.pixels(h, images)


def network(run: Run, frequencies: Array) -> Any:
    """The run's model and guide."""
    if run.model.temperatures:
        return RelaxedVAE(run, frequencies)
    return (SBN if run.model.task == "sbn" else VAE)(run, frequencies)


def bounds_of(
    run: Run,
    frequencies: Array,
    params: dict[str, Any],
    images: Array,
    samples: int,
    bar: bool = False,
) -> ours.EvidenceBounds:
    """The bounds of the discrete model with the given parameters."""
    made, x = network(run, frequencies), jnp.asarray(images, float)
    how = {"num_samples": samples, "progress_bar": bar}
    return ours.evidence_bounds(jax.random.key(0), params, made.model, made.guide, x, **how)


class Training:
    """A training on images that stay on the device, a compiled epoch at a time."""

    def __init__(self, run: Run, images: Images) -> None:
        self.run, self.frequencies = run, images.frequencies()
        made, loss = network(run, self.frequencies), run.loss(infer, ours)
        optim = optax.adam(optax.cosine_decay_schedule(run.rate, run.steps))
        self.svi = ours.AnnealedSVI(made.model, made.guide, optim, loss, run.temperature)
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
        return int(self.svi.steps(self.state))

    def epoch(self, order: Array) -> float:
        """Take a step for each row of image indices; return the mean loss of an image."""
        self.state, losses = self._epoch(self.state, self.images, order)
        return float(losses.mean()) / order.shape[1]

    def loss(self, images: Array) -> float:
        """The loss of an image, which is that of the relaxed model if the run has one."""
        evaluate = jax.jit(lambda x: self.svi.evaluate(self.state, x))
        batches = images.reshape(-1, BATCH, PIXELS)
        return sum(float(evaluate(jnp.asarray(x, float))) for x in batches) / len(images)

    def bounds(self, images: Array, samples: int, bar: bool = False) -> ours.EvidenceBounds:
        """The bounds of the discrete model."""
        params = self.svi.get_params(self.state)
        return bounds_of(self.run, self.frequencies, params, images, samples, bar)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        self.svi.save(path, self.state)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint."""
        self.state = self.svi.load(path, self.state)
