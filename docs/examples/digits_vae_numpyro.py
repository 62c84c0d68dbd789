"""A categorical VAE in NumPyro: 20 latent variables of 10 classes, trained by SVI."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import substitute
from numpyro.infer import TraceMeanField_ELBO

from digits_data import (
    BATCH,
    CLASSES,
    HIDDEN,
    LATENTS,
    LEARNING_RATE,
    Array,
    Bounds,
    Report,
    pixel_frequencies,
)
from relaxed_dists.numpyro import AnnealedSVI, GumbelSoftmax, OneHotCategorical, evidence_bounds
from relaxed_dists.schedules import Schedule

CHUNK = 50  # steps between two reports
COMPILES = True


def dense(name: str, x: jax.Array, width: int) -> jax.Array:
    """A linear layer, whose weights have torch's initial distribution."""
    bound = x.shape[-1] ** -0.5
    draw = partial(jax.random.uniform, minval=-bound, maxval=bound)
    weight = numpyro.param(f"{name}.weight", partial(draw, shape=(x.shape[-1], width)))
    bias = numpyro.param(f"{name}.bias", partial(draw, shape=(width,)))
    return x @ weight + bias


class DigitsVAE:
    """The model, its guide, and the trained parameters."""

    latents = LATENTS

    def __init__(self, images: Array) -> None:
        self.images = jnp.asarray(images)
        self.mean = jnp.asarray(pixel_frequencies(images))
        self.parameters: dict[str, jax.Array] = {}

    def encoder(self, x: jax.Array) -> jax.Array:
        """The logits of every latent variable."""
        hidden = jnp.tanh(dense("encoder.1", x - self.mean, HIDDEN))
        logits = dense("encoder.2", hidden, self.latents * CLASSES)
        return logits.reshape(*x.shape[:-1], self.latents, CLASSES)

    def decoder(self, z: jax.Array) -> jax.Array:
        """The logits of every pixel, around those of the mean image."""
        hidden = jnp.tanh(dense("decoder.1", z.reshape(*z.shape[:-2], -1), HIDDEN))
        return jax.scipy.special.logit(self.mean) + dense("decoder.2", hidden, self.mean.size)

    def prior(self) -> dist.Distribution:
        """The prior of a code, where all classes are equally likely."""
        return OneHotCategorical(logits=jnp.zeros((self.latents, CLASSES))).to_event(1)

    def pixels(self, z: jax.Array) -> dist.Distribution:
        """The distribution of an image, given its code."""
        return dist.Bernoulli(logits=self.decoder(z)).to_event(1)

    def model(self, images: jax.Array, batch_size: int | None = None) -> None:
        """The model of the digits, either all of them or a batch."""
        with numpyro.plate("images", len(images), subsample_size=batch_size) as batch:
            z = numpyro.sample("z", self.prior())
            numpyro.sample("x", self.pixels(z), obs=images[batch])

    def guide(
        self, images: jax.Array, batch_size: int | None = None, temperature: Any = 1.0
    ) -> None:
        """The guide of the batch's codes: soft samples, whose gradient goes through the softmax."""
        with numpyro.plate("images", len(images), subsample_size=batch_size) as batch:
            logits = self.encoder(images[batch])
            estimator = GumbelSoftmax(temperature, hard=False)
            numpyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator).to_event(1))


def train(images: Array, temperature: Schedule, steps: int, seed: int, report: Report) -> DigitsVAE:
    """Train by SVI at the schedule's temperature, in compiled chunks of steps."""
    vae = DigitsVAE(images)
    adam = numpyro.optim.Adam(LEARNING_RATE)
    loss, how = TraceMeanField_ELBO(), {"temperature": temperature, "batch_size": BATCH}
    svi = AnnealedSVI(vae.model, vae.guide, adam, loss, **how)

    @partial(jax.jit, static_argnums=1)
    def run(state: Any, chunk: int) -> Any:
        return jax.lax.scan(lambda state, _: svi.update(state, vae.images), state, length=chunk)

    state = jax.jit(svi.init)(jax.random.key(seed), vae.images)
    for start in range(0, steps, CHUNK):
        chunk = min(CHUNK, steps - start)
        state, losses = run(state, chunk)
        step = start + chunk
        report(step, float(temperature(step - 1)), -float(losses.mean()) / len(images))
    vae.parameters = svi.get_params(state)
    return vae


def held_out_bounds(vae: DigitsVAE, images: Array, seed: int, samples: int = 100) -> Bounds:
    """The bounds of the discrete model: hard codes and exact probabilities, no temperature."""
    key, x = jax.random.key(seed), jnp.asarray(images)
    how = {"num_samples": samples, "progress_bar": False}
    bounds = evidence_bounds(key, vae.parameters, vae.model, vae.guide, x, **how)
    return Bounds(bounds.elbo / len(images), bounds.importance_weighted / len(images))


def pictures(vae: DigitsVAE, images: Array, seed: int) -> tuple[Array, Array]:
    """Reconstructions from each image's most likely hard code, and samples from the prior."""

    @jax.jit
    def draw(parameters: dict[str, jax.Array], key: jax.Array) -> tuple[jax.Array, jax.Array]:
        with substitute(data=parameters):
            codes = OneHotCategorical(logits=vae.encoder(images)).mode
            z = vae.prior().sample(key, (len(images),))
            return vae.pixels(codes).mean, vae.pixels(z).mean

    reconstructions, samples = draw(vae.parameters, jax.random.key(seed))
    return np.asarray(reconstructions), np.asarray(samples)
