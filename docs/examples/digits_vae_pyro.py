"""A categorical VAE in Pyro: 20 latent variables of 10 classes, trained by SVI."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

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
from relaxed_dists.pyro import AnnealedSVI, GumbelSoftmax, OneHotCategorical, evidence_bounds
from relaxed_dists.schedules import Schedule

CHUNK = 50  # steps between two reports
COMPILES = False


class DigitsVAE(nn.Module):
    """The model and its guide."""

    latents = LATENTS

    def __init__(self, images: Array) -> None:
        super().__init__()
        self.images = torch.as_tensor(images)
        self.mean = torch.as_tensor(pixel_frequencies(images), dtype=torch.float32)
        pixels = images.shape[-1]
        self.encode = nn.Sequential(
            nn.Linear(pixels, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, self.latents * CLASSES)
        )
        self.decode = nn.Sequential(
            nn.Linear(self.latents * CLASSES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, pixels)
        )

    def encoder(self, x: Tensor) -> Tensor:
        """The logits of every latent variable."""
        return self.encode(x - self.mean).unflatten(-1, (self.latents, CLASSES))

    def decoder(self, z: Tensor) -> Tensor:
        """The logits of every pixel, around those of the mean image."""
        return torch.logit(self.mean) + self.decode(z.flatten(-2))

    def prior(self) -> dist.Distribution:
        """The prior of a code, where all classes are equally likely."""
        return OneHotCategorical(logits=torch.zeros(self.latents, CLASSES)).to_event(1)

    def pixels(self, z: Tensor) -> dist.Distribution:
        """The distribution of an image, given its code."""
        return dist.Bernoulli(logits=self.decoder(z)).to_event(1)

    def model(self, images: Tensor, batch_size: int | None = None) -> None:
        """The model of the digits, either all of them or a batch."""
        pyro.module("vae", self)
        with pyro.plate("images", len(images), subsample_size=batch_size) as batch:
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.pixels(z), obs=images[batch])

    def guide(
        self, images: Tensor, batch_size: int | None = None, temperature: float = 1.0
    ) -> None:
        """The guide of the batch's codes: soft samples, whose gradient goes through the softmax."""
        pyro.module("vae", self)
        with pyro.plate("images", len(images), subsample_size=batch_size) as batch:
            logits = self.encoder(images[batch])
            estimator = GumbelSoftmax(temperature, hard=False)
            pyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator).to_event(1))


def train(images: Array, temperature: Schedule, steps: int, seed: int, report: Report) -> DigitsVAE:
    """Train by SVI at the schedule's temperature."""
    torch.set_num_threads(1)  # on arrays this small, threads cost more than they gain
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    vae = DigitsVAE(images)
    adam = pyro.optim.Adam({"lr": LEARNING_RATE})
    svi = AnnealedSVI(vae.model, vae.guide, adam, TraceMeanField_ELBO(), temperature=temperature)
    losses: list[float] = []
    for step in range(1, steps + 1):
        losses.append(svi.step(vae.images, BATCH))
        if step % CHUNK == 0 or step == steps:
            report(step, float(temperature(step - 1)), -sum(losses) / len(losses) / len(images))
            losses.clear()
    return vae


def held_out_bounds(vae: DigitsVAE, images: Array, seed: int, samples: int = 100) -> Bounds:
    """The bounds of the discrete model: hard codes and exact probabilities, no temperature."""
    pyro.set_rng_seed(seed)
    x, how = torch.as_tensor(images), {"num_samples": samples, "progress_bar": False}
    bounds = evidence_bounds(vae.model, vae.guide, x, **how)
    return Bounds(bounds.elbo / len(images), bounds.importance_weighted / len(images))


@torch.no_grad()
def pictures(vae: DigitsVAE, images: Array, seed: int) -> tuple[Array, Array]:
    """Reconstructions from each image's most likely hard code, and samples from the prior."""
    pyro.set_rng_seed(seed)
    codes = OneHotCategorical(logits=vae.encoder(torch.as_tensor(images))).mode
    z = vae.prior().sample((len(images),))
    return vae.pixels(codes).mean.numpy(), vae.pixels(z).mean.numpy()
