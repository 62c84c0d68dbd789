"""The models of the table in Pyro."""

import os
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import infer, poutine
from torch import Tensor, nn
from tqdm import tqdm

import relaxed_dists.pyro as ours
from benchmarks.table1.data import Images
from benchmarks.table1.runs import BATCH, PIXELS, UNITS, Array, Run

# Images of a bound at once. With all 10,000 it takes almost twice as long: a chunk then has one
# sample, for which all layers are computed again, and its arrays are given back to the system.
PART = 500


class Network(nn.Module):
    """What all tasks share: a layer of latent variables, and the pixels."""

    kinds: Any = (ours.Bernoulli, ours.OneHotCategorical)

    def __init__(self, run: Run, frequencies: Array, width: int, pixels: int) -> None:
        super().__init__()
        self.run = run
        self.mean = torch.as_tensor(frequencies)
        self.estimator = run.estimator_of(ours)
        self.output = nn.Linear(width, pixels)
        with torch.no_grad():  # at first around the mean image
            self.output.bias.copy_(torch.logit(self.mean[-pixels:]))

    def layer(self, name: str, logits: Tensor, **how: Any) -> Tensor:
        """A layer of latent variables, flat."""
        binary, one_hot = self.kinds
        if self.run.model.latent == "bernoulli":
            return pyro.sample(name, binary(logits=logits, **how).to_event(1))
        logits = logits.unflatten(-1, (-1, self.run.model.classes))
        return pyro.sample(name, one_hot(logits=logits, **how).to_event(1)).flatten(-2)

    def pixels(self, h: Tensor, x: Tensor) -> None:
        """The last pixels of an image, as many as x has."""
        pyro.sample("x", dist.Bernoulli(logits=self.output(h)).to_event(1), obs=x)


class SBN(Network):
    """The lower half of an image from its upper half, by two layers of latent variables."""

    def __init__(self, run: Run, frequencies: Array) -> None:
        super().__init__(run, frequencies, UNITS, PIXELS // 2)
        self.h1, self.h2 = nn.Linear(PIXELS // 2, UNITS), nn.Linear(UNITS, UNITS)
        # The paper draws the latent variables from the model itself.
        self.guide = poutine.block(self.model, hide=["x"])

    def model(self, images: Tensor, temperature: Any) -> None:
        """The latent variables, and the lower half of the image."""
        pyro.module("network", self)
        with pyro.plate("images", len(images)):
            h = images[:, : PIXELS // 2] - self.mean[: PIXELS // 2]
            for name, linear in (("h1", self.h1), ("h2", self.h2)):
                h = self.layer(name, linear(h), estimator=self.estimator(temperature))
            self.pixels(h, images[:, PIXELS // 2 :])


class VAE(Network):
    """A variational autoencoder, whose encoder is linear."""

    def __init__(self, run: Run, frequencies: Array) -> None:
        super().__init__(run, frequencies, run.model.hidden or UNITS, PIXELS)
        self.encoder = nn.Linear(PIXELS, UNITS)
        hidden = run.model.hidden
        self.decoder = nn.Linear(UNITS, hidden) if hidden else None

    def guide(self, images: Tensor, temperature: Any) -> None:
        """The code of an image."""
        pyro.module("network", self)
        with pyro.plate("images", len(images)):
            self.layer("z", self.encoder(images - self.mean), estimator=self.estimator(temperature))

    def model(self, images: Tensor) -> None:
        """A code, in which all classes are equally likely, and its image."""
        pyro.module("network", self)
        with pyro.plate("images", len(images)):
            h = self.layer("z", torch.zeros(UNITS))
            if self.decoder:
                h = torch.tanh(self.decoder(h))
            self.pixels(h, images)


class RelaxedVAE(Network):
    """A variational autoencoder whose codes are relaxed, in the model too; its prior is learned."""

    kinds = (ours.RelaxedBernoulli, ours.RelaxedOneHotCategorical)

    def __init__(self, run: Run, frequencies: Array) -> None:
        units = run.model.units
        super().__init__(run, frequencies, units, PIXELS)
        self.encoder = nn.Linear(PIXELS, units)
        self.prior = nn.Parameter(torch.zeros(units))

    def guide(self, images: Tensor, temperature: Any) -> None:
        """The code of an image."""
        pyro.module("network", self)
        with pyro.plate("images", len(images)):
            self.layer("z", self.encoder(images - self.mean), temperature=temperature["guide"])

    def model(self, images: Tensor, temperature: Any) -> None:
        """A code and its image."""
        pyro.module("network", self)
        with pyro.plate("images", len(images)):
            h = self.layer("z", self.prior, temperature=temperature["model"])
            self.pixels(h, images)


def network(run: Run, frequencies: Array) -> Any:
    """The run's model and guide."""
    if run.model.temperatures:
        return RelaxedVAE(run, frequencies)
    return (SBN if run.model.task == "sbn" else VAE)(run, frequencies)


def bounds(made: Any, images: Array, samples: int, bar: bool = False) -> ours.EvidenceBounds:
    """The bounds of the discrete model, computed a part of the images at a time."""
    parts = torch.as_tensor(images).float().split(PART)
    how = {"num_samples": samples, "progress_bar": False}
    with poutine.seed(rng_seed=0):  # so that the training's noise doesn't depend on this call
        return ours.EvidenceBounds.joined(
            ours.evidence_bounds(made.model, made.guide, x, **how)
            for x in tqdm(parts, "bounds", disable=not bar, unit="part")
        )


def bounds_of(
    run: Run, frequencies: Array, params: dict[str, Array], images: Array, samples: int
) -> ours.EvidenceBounds:
    """The bounds of the discrete model with parameters that NumPyro has trained."""
    pyro.clear_param_store()
    made = network(run, frequencies)
    # A weight of torch has the shape (outputs, inputs).
    made.load_state_dict({name: torch.as_tensor(x.T) for name, x in params.items()})
    return bounds(made, images, samples)


class Training:
    """A training, which takes a step after the other."""

    def __init__(self, run: Run, images: Images) -> None:
        torch.set_num_threads(1)
        pyro.clear_param_store()
        pyro.set_rng_seed(run.seed)
        self.run, self.network = run, network(run, images.frequencies())
        size = len(images.train) // BATCH  # steps an epoch
        how = {"optimizer": torch.optim.Adam, "optim_args": {"lr": run.rate}}
        self.optim = pyro.optim.CosineAnnealingLR({**how, "T_max": run.steps // size})
        model, guide = self.network.model, self.network.guide
        loss = run.loss(infer, ours, vectorize_particles=True)
        self.svi = ours.AnnealedSVI(model, guide, self.optim, loss, run.temperature)
        self.images = torch.as_tensor(images.train)

    @property
    def steps(self) -> int:
        """The number of steps taken so far."""
        return self.svi.steps

    def epoch(self, order: Array) -> float:
        """Take a step for each row of image indices; return the mean loss of an image."""
        losses = [self.svi.step(self.images[rows].float()) for rows in torch.as_tensor(order)]
        self.optim.step()  # the step size changes once an epoch
        return sum(losses) / order.size

    def loss(self, images: Array) -> float:
        """The loss of an image, which is that of the relaxed model if the run has one."""
        batches = torch.as_tensor(images).float().split(BATCH)
        with poutine.seed(rng_seed=0):
            return sum(self.svi.evaluate_loss(x) for x in batches) / len(images)

    def bounds(self, images: Array, samples: int, bar: bool = False) -> ours.EvidenceBounds:
        """The bounds of the discrete model."""
        return bounds(self.network, images, samples, bar)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        self.svi.save(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint."""
        self.svi.load(path)
