"""Each estimator on the digits VAE of the demo: discrete test bounds and time of a step.

    python -m benchmarks.digits [--backend numpyro] [--seeds 5] [--steps 2000]

All are trained for the same number of steps, from the same parameters and on the same batches a
seed, the temperature annealed as in the demo where there is one; the exact KL of the discrete laws
where the loss takes it. They are tested as discrete models. Steps are timed in chunks, all
trainings in turn, and given relative to plain straight-through.
"""

import argparse
import importlib
import platform
import statistics
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.timing import interleaved, ratio

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "examples"))
CHUNK = 50  # steps between two looks at the clock
FIRST = "StraightThrough()"
Advance = Callable[[], object]
Test = Callable[[], tuple[float, float]]


def estimators(names: Any) -> dict[str, Callable[[Any], Any]]:
    """From the temperature of a step to an estimator."""
    return {
        FIRST: lambda t: names.StraightThrough(),
        "GumbelSoftmax(t)": names.GumbelSoftmax,
        "GumbelSoftmax(t, hard=False)": partial(names.GumbelSoftmax, hard=False),
        "DecoupledGumbelSoftmax(t, 1)": lambda t: names.DecoupledGumbelSoftmax(t, 1.0),
        "GappedStraightThrough(1)": lambda t: names.GappedStraightThrough(1.0),
        "ReinMax()": lambda t: names.ReinMax(),
        "GumbelRao(t, 10)": partial(names.GumbelRao, samples=10),
        "ReinMaxRao(0.7, 10)": lambda t: names.ReinMaxRao(0.7, 10),
    }


def in_torch(images: Any, test: Any, make: Any, steps: int, seed: int) -> tuple[Advance, Test]:
    """A training in Pyro: what takes a chunk of steps, and what tests its model."""
    import pyro
    from pyro.infer import TraceMeanField_ELBO

    import digits_vae_pyro as demo
    from digits_vae import annealed
    from relaxed_dists.pyro import AnnealedSVI, OneHotCategorical

    class VAE(demo.DigitsVAE):
        """The demo's, with another estimator."""

        def guide(self, images: Any, batch_size: Any = None, temperature: Any = 1.0) -> None:
            pyro.module("vae", self)
            with pyro.plate("images", len(images), subsample_size=batch_size) as batch:
                law = OneHotCategorical(
                    logits=self.encoder(images[batch]), estimator=make(temperature)
                )
                pyro.sample("z", law.to_event(1))

    store = pyro.get_param_store()
    store.clear()
    pyro.set_rng_seed(seed)
    vae, adam = VAE(images), pyro.optim.Adam({"lr": demo.LEARNING_RATE})
    svi = AnnealedSVI(vae.model, vae.guide, adam, TraceMeanField_ELBO(), annealed(steps))
    kept = [store.get_state(), pyro.util.get_rng_state()]

    def come_back() -> None:
        # Each training has the store and the random generator to itself.
        store.clear()
        store.set_state(kept[0])
        pyro.util.set_rng_state(kept[1])

    def advance() -> None:
        come_back()
        for _ in range(CHUNK):
            svi.step(vae.images, demo.BATCH)
        kept[:] = store.get_state(), pyro.util.get_rng_state()

    def bounds() -> tuple[float, float]:
        come_back()
        return demo.held_out_bounds(vae, test, seed)

    return advance, bounds


def in_jax(images: Any, test: Any, make: Any, steps: int, seed: int) -> tuple[Advance, Test]:
    """The same in NumPyro."""
    import jax
    import numpyro
    from numpyro.infer import TraceMeanField_ELBO

    import digits_vae_numpyro as demo
    from digits_vae import annealed
    from relaxed_dists.numpyro import AnnealedSVI, OneHotCategorical

    class VAE(demo.DigitsVAE):
        """The demo's, with another estimator."""

        def guide(self, images: Any, batch_size: Any = None, temperature: Any = 1.0) -> None:
            with numpyro.plate("images", len(images), subsample_size=batch_size) as batch:
                law = OneHotCategorical(
                    logits=self.encoder(images[batch]), estimator=make(temperature)
                )
                numpyro.sample("z", law.to_event(1))

    vae, adam = VAE(images), numpyro.optim.Adam(demo.LEARNING_RATE)
    how = {"temperature": annealed(steps), "batch_size": demo.BATCH}
    svi = AnnealedSVI(vae.model, vae.guide, adam, TraceMeanField_ELBO(), **how)

    @jax.jit
    def chunk(state: Any) -> Any:
        return jax.lax.scan(lambda s, _: (svi.update(s, vae.images)[0], None), state, length=CHUNK)[
            0
        ]

    kept = [jax.jit(svi.init)(jax.random.key(seed), vae.images)]

    def advance() -> None:
        kept[0] = jax.block_until_ready(chunk(kept[0]))

    def bounds() -> tuple[float, float]:
        vae.parameters = svi.get_params(kept[0])
        return demo.held_out_bounds(vae, test, seed)

    return advance, bounds


def main() -> None:
    """Train, and print a table a framework."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--backend", choices=("pyro", "numpyro", "both"), default="both")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    import torch

    import digits_data

    torch.set_num_threads(1)
    digits = digits_data.load()
    ways = {"pyro": ("Pyro", "torch", in_torch), "numpyro": ("NumPyro", "jax", in_jax)}
    for name in ways if options.backend == "both" else [options.backend]:
        framework, package, way = ways[name]
        makes = estimators(importlib.import_module(f"relaxed_dists.{name}"))
        bounds: dict[str, list[tuple[float, float]]] = {label: [] for label in makes}
        times: dict[str, list[float]] = {label: [] for label in makes}
        for seed in track(range(options.seeds), framework, transient=True):
            made = {label: way(*digits, make, options.steps, seed) for label, make in makes.items()}
            rounds = options.steps // CHUNK - 1  # the first is not timed
            for label, spent in interleaved(
                {label: advance for label, (advance, _) in made.items()}, 0.0, rounds
            ).items():
                times[label] += spent
                bounds[label].append(made[label][1]())
        about = f"{framework}, {package} {version(package)}, {platform.machine()}"
        table = Table("estimator", title=f"{about}: {options.steps} steps, {options.seeds} seeds")
        for column in ("test ELBO", "importance-weighted", "ms a step", "relative"):
            table.add_column(column, justify="right")
        for label, found in bounds.items():
            pairs = np.array(found).T
            cells = [f"{x.mean():.2f} ± {x.std(ddof=1) if len(x) > 1 else 0:.2f}" for x in pairs]
            cells += [f"{1e3 * statistics.median(times[label]) / CHUNK:.2f}"]
            table.add_row(label, *cells, f"{ratio(times, label, FIRST):.2f}")
        Console(width=110).print(table)


if __name__ == "__main__":
    main()
