"""Measure what the exact KL of relaxed distributions changes in a VAE, in Pyro and in NumPyro.

Prior and posterior are relaxed, at two temperatures. TraceMeanField_ELBO uses their exact KL;
Trace_ELBO estimates it from the sample. At the same parameters, before and after a training with
the exact KL, both ELBOs estimate the gradient by the encoder's logits many times. Run
``python exact_kl.py --help`` for the options.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from digits_data import BATCH, CLASSES, LEARNING_RATE, Array, load

LATENTS = 6
POSTERIOR = 0.5  # the temperature of the guide's distribution
PRIORS = (2 / 3, POSTERIOR)  # the prior's temperatures; the training uses the first
SHAPE = (BATCH, LATENTS, CLASSES)  # the shape of the logits
ELBOS = ("Trace_ELBO", "TraceMeanField_ELBO")
WARM_UP = 1000  # steps in which the KL's weight grows to 1, else all codes become equal
NOTHING = 1e-9  # a weight that leaves the KL out: both frameworks require more than 0


class Gradient(NamedTuple):
    """Mean and variance of each entry, over draws that differ only in the noise of the codes."""

    mean: Array
    variance: Array
    draws: int
    milliseconds: float  # for the fastest draw, with the parameters' gradients


class Row(NamedTuple):
    """The gradients by both ELBOs at the same parameters, and the likelihood's gradient."""

    trained: int
    prior: float
    sampled: Gradient
    exact: Gradient
    likelihood: Gradient


def repeated(draw: Callable[[int], Array], draws: int) -> Gradient:
    """Mean and variance of draws, in double precision; a draw before, not included, may compile."""
    draw(draws)
    total, squares, fastest = np.zeros(SHAPE), np.zeros(SHAPE), math.inf
    for n in range(draws):
        began = time.perf_counter()
        gradient = draw(n).astype(np.float64)
        fastest = min(fastest, time.perf_counter() - began)
        total += gradient
        squares += gradient**2
    mean = total / draws
    variance = (squares / draws - mean**2) * draws / (draws - 1)
    return Gradient(mean, variance, draws, 1000 * fastest)


def apart(a: Gradient, b: Gradient) -> float:
    """The distance of two means in standard errors: about 1 if their expectations are equal."""
    error = (a.variance / a.draws + b.variance / b.draws).sum()
    return math.sqrt(((a.mean - b.mean) ** 2).sum() / error)


def rows(trained: int, measure: Callable[[str, float, float], Gradient]) -> Iterator[Row]:
    """A row for each temperature of the prior, from a function of ELBO, temperature and weight."""
    for prior in PRIORS:
        sampled, exact = (measure(elbo, prior, 1.0) for elbo in ELBOS)
        yield Row(trained, prior, sampled, exact, measure(ELBOS[1], prior, NOTHING))


def relaxed(base: Any, ppl: Any, scale: Any, cls: Any, zeros: Any) -> Any:
    """A framework's VAE with relaxed distributions in model and guide, and a weight of the KL."""

    class RelaxedVAE(base):
        """Model and guide; `shift` is added to the encoder's logits, so its gradient is theirs."""

        latents = LATENTS

        def model(self, prior: Any, weight: Any, shift: Any = 0.0) -> None:
            with ppl.plate("images", len(self.images), subsample_size=BATCH) as batch:
                with scale(scale=weight):
                    z = ppl.sample("z", cls(prior, logits=zeros).to_event(1))
                ppl.sample("x", self.pixels(z), obs=self.images[batch])

        def guide(self, prior: Any, weight: Any, shift: Any = 0.0) -> None:
            with ppl.plate("images", len(self.images), subsample_size=BATCH) as batch:
                logits = self.encoder(self.images[batch]) + shift
                with scale(scale=weight):
                    ppl.sample("z", cls(POSTERIOR, logits=logits).to_event(1))

    return RelaxedVAE


def in_pyro(images: Array, steps: int, draws: int, seed: int) -> Iterator[Row]:
    """Train and measure in Pyro."""
    import pyro
    import torch
    from pyro import infer

    from digits_vae_pyro import DigitsVAE
    from relaxed_dists.pyro import RelaxedOneHotCategorical

    def measure(elbo: str, prior: float, weight: float) -> Gradient:
        loss = getattr(infer, elbo)().differentiable_loss
        shift = torch.zeros(SHAPE, requires_grad=True)

        def draw(n: int) -> Array:
            value = loss(vae.model, vae.guide, prior, weight, shift)
            # The encoder's and the decoder's parameters, and the shift of the encoder's logits.
            return torch.autograd.grad(value, [*vae.parameters(), shift])[-1].numpy()

        return repeated(draw, draws)

    torch.set_num_threads(1)
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    zeros = torch.zeros(LATENTS, CLASSES)
    vae = relaxed(DigitsVAE, pyro, pyro.poutine.scale, RelaxedOneHotCategorical, zeros)(images)
    everything, vae.images = vae.images, vae.images[:BATCH]
    yield from rows(0, measure)
    vae.images = everything

    def guide(*args: Any) -> None:
        pyro.module("vae", vae)
        vae.guide(*args)

    adam = pyro.optim.Adam({"lr": LEARNING_RATE})
    svi = infer.SVI(vae.model, guide, adam, infer.TraceMeanField_ELBO())
    for step in range(steps):
        svi.step(PRIORS[0], min(1.0, (step + 1) / WARM_UP))
    vae.images = everything[:BATCH]
    yield from rows(steps, measure)


def in_numpyro(images: Array, steps: int, draws: int, seed: int) -> Iterator[Row]:
    """Train and measure in NumPyro."""
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro import infer

    from digits_vae_numpyro import DigitsVAE
    from relaxed_dists.numpyro import RelaxedOneHotCategorical

    @partial(jax.jit, static_argnums=0)
    @partial(jax.grad, argnums=(1, 2))
    def gradients(elbo: str, parameters: Any, shift: Any, key: Any, *args: Any) -> Any:
        loss = getattr(infer, elbo)().loss
        return loss(key, parameters, vae.model, vae.guide, *args, shift)

    def measure(elbo: str, prior: float, weight: float) -> Gradient:
        def draw(n: int) -> Array:
            key = jax.random.fold_in(jax.random.key(seed), next(count))
            shift = jnp.zeros(SHAPE)
            return np.asarray(gradients(elbo, svi.get_params(state), shift, key, prior, weight)[1])

        return repeated(draw, draws)

    zeros = jnp.zeros((LATENTS, CLASSES))
    scale = numpyro.handlers.scale
    vae = relaxed(DigitsVAE, numpyro, scale, RelaxedOneHotCategorical, zeros)(images)
    everything, vae.images = vae.images, vae.images[:BATCH]
    adam = numpyro.optim.Adam(LEARNING_RATE)
    svi = infer.SVI(vae.model, vae.guide, adam, infer.TraceMeanField_ELBO())
    state = jax.jit(svi.init)(jax.random.key(seed), PRIORS[0], 1.0)
    count = itertools.count()  # no two draws share their noise
    yield from rows(0, measure)
    vae.images = everything
    update = jax.jit(svi.update)
    for step in range(steps):
        state, _ = update(state, PRIORS[0], min(1.0, (step + 1) / WARM_UP))
    vae.images = everything[:BATCH]
    yield from rows(steps, measure)


FRAMEWORKS = {"pyro": ("Pyro", in_pyro), "numpyro": ("NumPyro", in_numpyro)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure in each framework and print the table."""
    parser = argparse.ArgumentParser(description="The exact KL against the sampled one, in a VAE.")
    parser.add_argument("--backend", choices=(*FRAMEWORKS, "both"), default="both")
    parser.add_argument("--steps", type=int, default=3000, help="of the training")
    parser.add_argument("--draws", type=int, default=1000, help="of each gradient")
    parser.add_argument("--quick", action="store_true", help="100 steps and 50 draws")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    steps, draws = (100, 50) if args.quick else (args.steps, args.draws)
    if steps < 1 or draws < 2:
        parser.error(f"got --steps {steps} --draws {draws}; expected at least 1 and 2")
    table = Table(
        "framework",
        box=box.SIMPLE_HEAD,
        title="The gradient for the encoder's logits: sampled KL against exact KL",
        caption="Variance: summed over the logits of a batch. Means apart: in standard errors,\n"
        "1 where they are the same; and with the KL left out of one, for comparison.",
    )
    titles = ("steps\ntrained", "prior's\ntemperature", "variance,\nsampled", "variance,\nexact")
    for title in (*titles, "ratio", "means\napart", "without\nKL", "ms,\nsampled", "ms,\nexact"):
        table.add_column(title, justify="right", no_wrap=True)
    images = load().train
    console = Console(width=110)
    for backend, (name, measured) in FRAMEWORKS.items():
        if args.backend not in (backend, "both"):
            continue
        with console.status(f"Measuring in {name} ..."):
            for row in measured(images, steps, draws, args.seed):
                sampled, exact = row.sampled.variance.sum(), row.exact.variance.sum()
                table.add_row(
                    name,
                    str(row.trained),
                    f"{row.prior:.3f}",
                    f"{sampled:.4g}",
                    f"{exact:.4g}",
                    f"{sampled / exact:.4g}",
                    f"{apart(row.sampled, row.exact):.3f}",
                    f"{apart(row.sampled, row.likelihood):.3f}",
                    f"{row.sampled.milliseconds:.1f}",
                    f"{row.exact.milliseconds:.1f}",
                )
    console.print(table)


if __name__ == "__main__":
    main()
