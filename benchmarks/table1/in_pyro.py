"""The models of the table in Pyro."""

import os
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from benchmarks.table1.data import Images
from benchmarks.table1.runs import BATCH, CLASSES, PIXELS, UNITS, Array, Run
from relaxed_dists.pyro import (
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


class Network(nn.Module):
    """What both tasks share: a layer of latent variables, and the pixels."""

    def __init__(self, run: Run, frequencies: Array, width: int, pixels: int) -> None:
        super().__init__()
        self.run = run
        self.mean = torch.as_tensor(frequencies)
        self.estimator = ESTIMATORS[run.estimator]
        self.output = nn.Linear(width, pixels)
        with torch.no_grad():  # at first around the mean image
            self.output.bias.copy_(torch.logit(self.mean[-pixels:]))

    def layer(self, name: str, logits: Tensor, estimator: Any = None) -> Tensor:
        """A layer of latent variables, flat."""
        if self.run.model.latent == "bernoulli":
            d = Bernoulli(logits=logits, estimator=estimator)
            return pyro.sample(name, d.to_event(1))
        logits = logits.unflatten(-1, (-1, CLASSES))
        z = pyro.sample(name, OneHotCategorical(logits=logits, estimator=estimator).to_event(1))
        return z.flatten(-2)

    def pixels(self, h: Tensor, x: Tensor) -> None:
        """The last pixels of an image, as many as x has."""
        pyro.sample("x", dist.Bernoulli(logits=self.output(h)).to_event(1), obs=x)


class SBN(Network):
    """The lower half of an image from its upper half, by two layers of latent variables."""

    def __init__(self, run: Run, frequencies: Array) -> None:
        super().__init__(run, frequencies, UNITS, PIXELS // 2)
        self.h1, self.h2 = nn.Linear(PIXELS // 2, UNITS), nn.Linear(UNITS, UNITS)

    def layers(self, images: Tensor, temperature: Any) -> Tensor:
        """The two layers, which are the guide: the paper draws them from the model itself."""
        h = images[:, : PIXELS // 2] - self.mean[: PIXELS // 2]
        for name, linear in (("h1", self.h1), ("h2", self.h2)):
            h = self.layer(name, linear(h), self.estimator(temperature))
        return h

    def guide(self, images: Tensor, temperature: Any) -> None:
        """The latent variables."""
        pyro.module("network", self)
        with pyro.plate("images", len(images)):
            self.layers(images, temperature)

    def model(self, images: Tensor, temperature: Any) -> None:
        """The latent variables, and the lower half of the image."""
        pyro.module("network", self)
        with pyro.plate("images", len(images)):
            self.pixels(self.layers(images, temperature), images[:, PIXELS // 2 :])


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
            self.layer("z", self.encoder(images - self.mean), self.estimator(temperature))

    def model(self, images: Tensor) -> None:
        """A code, in which all classes are equally likely, and its image."""
        pyro.module("network", self)
        with pyro.plate("images", len(images)):
            h = self.layer("z", torch.zeros(UNITS))
            if self.decoder:
                h = torch.tanh(self.decoder(h))
            self.pixels(h, images)


def network(run: Run, frequencies: Array) -> Any:
    """The run's model and guide."""
    return (SBN if run.model.task == "sbn" else VAE)(run, frequencies)


def bounds(made: Any, images: Array, samples: int) -> EvidenceBounds:
    """The bounds of the discrete model, summed over the images."""
    x, how = torch.as_tensor(images).float(), {"num_samples": samples, "progress_bar": False}
    with torch.random.fork_rng():  # so that the training's noise doesn't depend on this call
        pyro.set_rng_seed(0)
        return evidence_bounds(made.model, made.guide, x, **how)


def bounds_of(
    run: Run, frequencies: Array, params: dict[str, Array], images: Array, samples: int
) -> EvidenceBounds:
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
        self.network = network(run, images.frequencies())
        loss: Any = Trace_ELBO() if run.model.task == "sbn" else TraceMeanField_ELBO()
        if run.estimator == "loo":
            loss = LeaveOneOut_ELBO(2, vectorize_particles=True)
        sbn = run.model.task == "sbn"
        self.schedule = constant(1.0) if sbn else exponential(1.0, rate=1e-4, floor=0.5, every=500)
        size = len(images.train) // BATCH  # steps an epoch
        how = {"optimizer": torch.optim.Adam, "optim_args": {"lr": run.rate}}
        self.optim = pyro.optim.CosineAnnealingLR({**how, "T_max": run.steps // size})
        self.svi = AnnealedSVI(
            self.network.model, self.network.guide, self.optim, loss, self.schedule
        )
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

    def bounds(self, images: Array, samples: int) -> EvidenceBounds:
        """The bounds of the discrete model, summed over the images."""
        return bounds(self.network, images, samples)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        self.svi.save(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint."""
        self.svi.load(path)
