"""Train a categorical VAE on handwritten digits, in Pyro and in NumPyro.

Run ``python digits_vae.py --help`` for the options. The models are in ``digits_vae_pyro.py`` and
``digits_vae_numpyro.py``; this file trains them, prints the table and draws the picture. The
frameworks are imported late, so that the script prints what it will do before the slow imports.
"""

from __future__ import annotations

import argparse
import importlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digits_data import Bounds, Digits, Run
    from relaxed_dists.schedules import Schedule

FRAMEWORKS = {"pyro": "Pyro", "numpyro": "NumPyro"}
START, FLOOR = 1.0, 0.25  # the temperature's first and last value
SHOWN = 12  # digits of each kind in the picture


def annealed(steps: int) -> Schedule:
    """A schedule from START down to FLOOR over the first 60 % of the steps, then constant."""
    from relaxed_dists.schedules import exponential

    rate = math.log(START / FLOOR) / (0.6 * steps)
    return exponential(START, rate=rate, floor=FLOOR, every=max(1, steps // 40))


def fit(
    backend: Any, name: str, digits: Digits, temperature: Schedule, steps: int, seed: int
) -> Run:
    """Train one model behind a progress bar, and test it on the held-out digits."""
    from rich.progress import BarColumn, Progress, TextColumn

    from digits_data import Run

    curve: list[tuple[int, float, float]] = []
    columns = (
        TextColumn("{task.description:<19}"),
        BarColumn(bar_width=10),
        TextColumn("step {task.completed:>4}"),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(name, total=steps, state="compiling" if backend.COMPILES else "")

        def report(step: int, current: float, elbo: float) -> None:
            curve.append((step, current, elbo))
            state = f"temperature {current:.2f}  ELBO {elbo:7.2f}"
            progress.update(task, completed=step, state=state)

        began = time.perf_counter()
        vae = backend.train(digits.train, temperature, steps, seed, report)
        seconds = time.perf_counter() - began
    shown = digits.test[:SHOWN]
    return Run(
        name,
        steps,
        seconds,
        curve,
        backend.held_out_bounds(vae, digits.test, seed),
        *backend.pictures(vae, shown, seed),
    )


def show_table(runs: list[Run], pixels: tuple[float, Bounds]) -> None:
    """Print a row for each training, and one for the independent pixels."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        title="Nats per image; higher is better",
        padding=(0, 1, 0, 0),
        caption="Training: soft codes, at the last temperature.\n"
        "Test: hard codes (the discrete model), 100 samples an image.",
    )
    table.add_column("model", no_wrap=True)
    for title in ("steps", "seconds", "training\nobjective", "test\nELBO", "importance-\nweighted"):
        table.add_column(title, justify="right", no_wrap=True)
    for run in runs:
        numbers = (run.curve[-1][2], *run.test)
        seconds = f"{run.seconds:.1f}"
        table.add_row(run.name, str(run.steps), seconds, *(f"{n:.2f}" for n in numbers))
    objective, test = pixels
    numbers = (objective, *test)
    table.add_row("independent pixels", "-", "-", *(f"{n:.2f}" for n in numbers))
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Train in each chosen framework, train a reference in the last one, and compare them."""
    parser = argparse.ArgumentParser(description="A categorical VAE on handwritten digits.")
    parser.add_argument("--backend", choices=(*FRAMEWORKS, "both"), default="both")
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="demo.png", help="where to put the picture")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f"--steps got {args.steps}; expected at least 1")
    if not Path(args.out).absolute().parent.is_dir():
        parser.error(f"--out got {args.out}, whose folder does not exist. Make it first.")
    chosen = list(FRAMEWORKS) if args.backend == "both" else [args.backend]
    print(
        "Training a categorical VAE (20 latent variables of 10 classes) on 1,300 digits of 8x8\n"
        f"pixels, {args.steps} steps in {' and then in '.join(FRAMEWORKS[b] for b in chosen)} with "
        "the temperature annealed,\n"
        f"and for reference in {FRAMEWORKS[chosen[-1]]} with the temperature held at 1. "
        "Loading takes some seconds.",
        flush=True,
    )

    import digits_data
    import digits_picture
    from relaxed_dists.schedules import constant

    digits = digits_data.load()
    backends = {name: importlib.import_module(f"digits_vae_{name}") for name in chosen}
    trainings = [(name, "annealed", annealed(args.steps)) for name in chosen]
    trainings.append((chosen[-1], "held at 1", constant(1.0)))
    runs = [
        fit(backends[name], f"{FRAMEWORKS[name]}, {kind}", digits, schedule, args.steps, args.seed)
        for name, kind, schedule in trainings
    ]
    pixels = digits_data.independent_pixels(digits)
    show_table(runs, pixels)
    digits_picture.draw(digits.test[:SHOWN], runs, pixels[1].elbo, args.out)
    print(f"The picture is in {args.out}")


if __name__ == "__main__":
    main()
