"""Each estimator on the digits VAE of the demo: test bounds of the discrete model, and time.

    python -m benchmarks.estimators.digits [--backend numpyro] [--seeds 5] [--steps 1000] [--only X]

All are trained by the same optimiser for the same number of steps. Each seed fixes the start and
the minibatches. The temperature t is annealed as in the demo. The estimators are trained with the
exact KL of the discrete distributions, the unbiased losses with a sampled KL. The held-out digits
are scored under the discrete model with 100 samples each. Each framework has its own process and
core; the times are CPU times.
"""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks.tables import show

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))
CHUNK = 50  # steps that are timed together
BACKENDS = {"pyro": ("Pyro", "pyro-ppl", "torch"), "numpyro": ("NumPyro", "numpyro", "jax")}


class Way(NamedTuple):
    """Functions from a step's temperature to an estimator, and from RELAX's surrogate to a loss."""

    estimator: Callable[[Any], Any]
    loss: Callable[[Any], Any]


class Training(NamedTuple):
    """A function that trains one step for each row of image indices, and a function that tests."""

    advance: Callable[[np.ndarray], object]
    test: Callable[[], tuple[float, float]]


def ways(backend: str) -> dict[str, Way]:
    """The estimators and losses to compare."""
    names = importlib.import_module(f"relaxed_dists.{backend}")
    infer = importlib.import_module(f"{backend}.infer")

    def exact(estimator: Callable[[Any], Any]) -> Way:
        return Way(estimator, lambda r: infer.TraceMeanField_ELBO())

    def leave_one_out(n: int) -> Way:
        return Way(lambda t: None, lambda r: names.LeaveOneOut_ELBO(n, vectorize_particles=True))

    def half(t: Any) -> Any:
        return names.GumbelSoftmax(0.5)

    return {
        "StraightThrough()": exact(lambda t: names.StraightThrough()),
        "GumbelSoftmax(t)": exact(names.GumbelSoftmax),
        "GumbelSoftmax(t, hard=False)": exact(partial(names.GumbelSoftmax, hard=False)),
        "GumbelRao(t, 10)": exact(partial(names.GumbelRao, samples=10)),
        "ReinMax()": exact(lambda t: names.ReinMax()),
        "ReinMaxRao(0.7, 10)": exact(lambda t: names.ReinMaxRao(0.7, 10)),
        "GappedStraightThrough(1)": exact(lambda t: names.GappedStraightThrough(1.0)),
        "DecoupledGumbelSoftmax(t, 1)": exact(lambda t: names.DecoupledGumbelSoftmax(t, 1.0)),
        "LeaveOneOut_ELBO(2)": leave_one_out(2),
        "LeaveOneOut_ELBO(10)": leave_one_out(10),
        "REBAR_ELBO(), at 0.5": Way(half, lambda r: names.REBAR_ELBO()),
        "RELAX_ELBO(network), at 0.5": Way(half, names.RELAX_ELBO),
    }


def in_pyro(digits: Any, way: Way, steps: int) -> Callable[[int], Training]:
    """A function from a seed to a training in Pyro."""
    import pyro
    import torch
    from torch import nn

    import digits_vae_pyro as demo
    from digits_vae import annealed
    from relaxed_dists.pyro import AnnealedSVI, OneHotCategorical

    torch.set_num_threads(1)

    class VAE(demo.DigitsVAE):
        """The demo's VAE, with another estimator."""

        def guide(self, images: Any, temperature: Any = 1.0) -> None:
            pyro.module("vae", self)
            d = OneHotCategorical(logits=self.encoder(images), estimator=way.estimator(temperature))
            with pyro.plate("images", len(images)):
                pyro.sample("z", d.to_event(1))

    def start(seed: int) -> Training:
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        vae = VAE(digits.train)
        inputs = digits.train.shape[-1] + demo.LATENTS * demo.CLASSES
        network = nn.Sequential(
            nn.Linear(inputs, demo.HIDDEN), nn.Tanh(), nn.Linear(demo.HIDDEN, 1), nn.Flatten(0)
        )

        def surrogate(values: Any, images: Any) -> Any:
            pyro.module("surrogate", network)
            return network(torch.cat((images, values["z"].flatten(-2)), -1))

        adam, loss = pyro.optim.Adam({"lr": demo.LEARNING_RATE}), way.loss(surrogate)
        svi = AnnealedSVI(vae.model, vae.guide, adam, loss, annealed(steps))

        def advance(batches: np.ndarray) -> None:
            for batch in batches:
                svi.step(vae.images[batch])

        return Training(advance, lambda: demo.held_out_bounds(vae, digits.test, seed))

    return start


def in_numpyro(digits: Any, way: Way, steps: int) -> Callable[[int], Training]:
    """A function from a seed to a training in NumPyro."""
    import jax
    import jax.numpy as jnp
    import numpyro

    import digits_vae_numpyro as demo
    from digits_vae import annealed
    from relaxed_dists.numpyro import AnnealedSVI, OneHotCategorical

    def network(images: Any, z: Any) -> Any:
        inputs = jnp.concatenate((images, z.reshape(len(z), -1)), -1)
        return demo.dense(
            "surrogate.2", jnp.tanh(demo.dense("surrogate.1", inputs, demo.HIDDEN)), 1
        )

    def surrogate(params: Any, values: Any, images: Any) -> Any:
        with numpyro.handlers.substitute(data=params):
            return network(images, values["z"])[:, 0]

    loss = way.loss(surrogate)

    class VAE(demo.DigitsVAE):
        """The demo's VAE, with another estimator."""

        def guide(self, images: Any, temperature: Any = 1.0) -> None:
            logits = self.encoder(images)
            if getattr(loss, "surrogate", None):
                network(images, logits)  # only declares its parameters
            d = OneHotCategorical(logits=logits, estimator=way.estimator(temperature))
            with numpyro.plate("images", len(images)):
                numpyro.sample("z", d.to_event(1))

    vae, adam = VAE(digits.train), numpyro.optim.Adam(demo.LEARNING_RATE)
    svi = AnnealedSVI(vae.model, vae.guide, adam, loss, annealed(steps))

    @jax.jit
    def taken(state: Any, batches: Any) -> Any:
        return jax.lax.scan(lambda s, b: (svi.update(s, vae.images[b])[0], None), state, batches)[0]

    def start(seed: int) -> Training:
        state = jax.jit(svi.init)(jax.random.key(seed), vae.images[: demo.BATCH])

        def advance(batches: np.ndarray) -> None:
            nonlocal state
            state = jax.block_until_ready(taken(state, batches))

        def test() -> tuple[float, float]:
            vae.parameters = svi.get_params(state)
            return demo.held_out_bounds(vae, digits.test, seed)

        return Training(advance, test)

    return start


def batches(images: int, steps: int, seed: int) -> np.ndarray:
    """Image indices, a row for each step, in a new order in each epoch.

    They are drawn outside the models, since a subsampling plate draws anew for each particle.
    """
    from digits_data import BATCH

    rng, epochs = np.random.default_rng(seed), -(-steps * BATCH // images)
    orders = np.concatenate([rng.permutation(images) for _ in range(epochs)])
    return orders[: steps * BATCH].reshape(steps, BATCH)


def measure(backend: str, core: int, seeds: int, steps: int, only: list[str]) -> dict[str, Any]:
    """Each way's test bounds, in a row for each seed, and its median milliseconds for a step."""
    if hasattr(os, "sched_setaffinity"):  # JAX has no setting for one thread
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})
    import digits_data

    digits, made = digits_data.load(), {"pyro": in_pyro, "numpyro": in_numpyro}[backend]
    chosen = {k: way for k, way in ways(backend).items() if any(part in k for part in only)}
    starts = {label: made(digits, way, steps) for label, way in chosen.items()}
    bounds: dict[str, list[tuple[float, float]]] = {label: [] for label in starts}
    times: dict[str, list[float]] = {label: [] for label in starts}
    bar = tqdm(total=seeds * len(starts), desc=backend, unit="training", position=core)
    for seed in range(seeds):
        rows = batches(len(digits.train), steps, seed).reshape(-1, CHUNK, digits_data.BATCH)
        for label, start in starts.items():
            training = start(seed)
            training.advance(rows[0])  # compiles, and is not timed
            for chunk in rows[1:]:
                began = time.process_time()  # CPU time, which other programs don't lengthen
                training.advance(chunk)
                times[label].append(1e3 * (time.process_time() - began) / CHUNK)
            bounds[label].append(training.test())
            bar.update()
    return {label: (np.array(bounds[label]), np.median(times[label])) for label in starts}


def main() -> None:
    """Train in the frameworks side by side, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--backend", choices=(*BACKENDS, "both"), default="both")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000, help=f"of a training, by {CHUNK}")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the estimators' names")
    parser.add_argument("--markdown", action="store_true", help="print a table of Markdown")
    options = parser.parse_args()
    if options.steps % CHUNK or options.steps < 2 * CHUNK or options.seeds < 2:
        parser.error(f"expected a multiple of {CHUNK} steps, two at least, and 2 seeds or more")
    backends = list(BACKENDS) if options.backend == "both" else [options.backend]
    run = partial(measure, seeds=options.seeds, steps=options.steps, only=options.only)
    with ProcessPoolExecutor(len(backends), get_context("spawn")) as pool:
        found = list(pool.map(run, backends, range(len(backends))))
    header, rows, about = ["estimator"], {label: [label] for label in found[0]}, []
    for backend, results in zip(backends, found, strict=True):
        framework, *packages = BACKENDS[backend]
        about += [f"{package} {version(package)}" for package in packages]
        header += [f"{framework}: ELBO", "importance-weighted", "ms a step"]
        for label, (bounds, ms) in results.items():
            pairs = zip(bounds.mean(0), bounds.std(0, ddof=1), strict=True)
            rows[label] += [*(f"{mean:.2f} ± {sd:.2f}" for mean, sd in pairs), f"{ms:.2f}"]
    title = f"Nats a test digit, {options.steps} steps, mean and deviation of {options.seeds} seeds"
    show(f"{title} ({', '.join(about)}; 1 thread)", header, rows.values(), options.markdown)


if __name__ == "__main__":
    main()
