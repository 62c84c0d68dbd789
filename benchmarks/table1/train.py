"""Trains one run, and writes its JSON."""

import importlib
import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import machine
from benchmarks.table1.data import Images
from benchmarks.table1.runs import BATCH, BOUNDS, SAMPLES, UNANNEALED, Array, Run

POINTS = 12  # of the curve
SHORT = (1000, 10)  # images and samples of the bound in the curve
VALIDATION = 100  # samples of the bound by which a step size is chosen
KEPT = 50  # test images that are kept with the parameters
PACKAGES = {"numpyro": ("jax", "numpyro", "optax"), "pyro": ("torch", "pyro-ppl")}

Point = dict[str, Any]


def started(run: Run, images: Images) -> Any:
    """The run's training, before its first step."""
    module = importlib.import_module(f"benchmarks.table1.in_{run.framework}")
    return module.Training(run, images)


def timed(run: Run, images: Images) -> float:
    """The processor's milliseconds a step, of 100 steps after the first 100, which compile."""
    training, steps = started(run, images), 100
    for rows in (order := run.order(0, len(images.train)))[:steps], order[steps : 2 * steps]:
        began = time.process_time()
        training.epoch(rows)
    return 1e3 * (time.process_time() - began) / steps


def fit(run: Run, images: Images, training: Any, folder: Path) -> Iterator[Point]:
    """Train, from the checkpoint in the folder if there is one; yield the points of the curve.

    Each point is saved with a checkpoint before it is yielded.
    """
    checkpoint, saved = (folder / f"{run.name}.{kind}" for kind in ("checkpoint", "curve"))
    curve: list[Point] = []
    if checkpoint.exists():
        training.load(checkpoint)
        # The points are written first, so that there may be one more of them.
        curve = [p for p in json.loads(saved.read_text()) if p["step"] <= training.steps]
        yield from curve
    seconds = curve[-1]["seconds"] if curve else 0.0  # of training alone
    size = len(images.train) // BATCH  # steps
    epochs, start = run.steps // size, training.steps // size
    every, losses = max(epochs // POINTS, 1), []
    with tqdm(range(start, epochs), run.name, epochs, initial=start, unit="epoch") as bar:
        for epoch in bar:
            began = time.process_time()  # other programs lengthen it less than the time of day
            losses.append(training.epoch(run.order(epoch, len(images.train))))
            seconds += time.process_time() - began
            bar.set_postfix(loss=f"{losses[-1]:.2f}")
            if (epoch + 1) % every and epoch + 1 < epochs:
                continue
            some, samples = images.validation[: SHORT[0]], SHORT[1]
            temperature = None if run.estimator in UNANNEALED else run.temperature
            if callable(temperature):
                temperature = float(temperature(training.steps - 1))
            point = {
                "step": training.steps,
                "temperature": temperature,
                "loss": float(np.mean(losses)),
                "validation": -training.bounds(some, samples).importance_weighted / len(some),
                "seconds": seconds,
            }
            curve.append(point)
            losses.clear()
            saved.write_text(json.dumps(curve))
            training.save(checkpoint)
            yield point


def bound(training: Any, images: Array, samples: int) -> dict[str, Any]:
    """Minus the importance-weighted bound of an image, with two standard errors.

    `error` is that of the choice of images, `sampling_error` that of the samples.
    """
    found = training.bounds(images, samples, bar=True)
    each = -found.importance_weighted_pointwise
    return {
        "bound": float(each.mean()),
        "error": float(each.std(ddof=1) / len(each) ** 0.5),
        "sampling_error": found.importance_weighted_error / len(each),
        "elbo": -found.elbo / len(each),
        "samples": samples,
    }


def relaxed(training: Any, images: Array, result: dict[str, Any]) -> dict[str, Any]:
    """The bound of the relaxed model that was trained, and that of its discrete model.

    Both have as many samples as the loss. A single sample is averaged over those of the test.
    """
    samples = BOUNDS[training.run.estimator]
    single = samples == 1
    discrete = result["test"]["elbo"] if single else bound(training, images, samples)["bound"]
    return {"relaxed": training.loss(images), "discrete": discrete, "samples": samples}


def keep(run: Run, images: Images, folder: Path) -> None:
    """Write the parameters of a finished NumPyro run, and the bound of the first test images.

    The file has what a test needs to compute this bound without MNIST.
    """
    checkpoint = folder / f"{run.name}.checkpoint"
    if not checkpoint.exists():
        raise SystemExit(
            f"--keep got {run.name}, but there is no {checkpoint}, which has its parameters. Train "
            "the run here, by the same options without --keep (after removing its JSON, if there "
            "is one)."
        )
    training, some = started(run, images), images.test[:KEPT]
    training.load(checkpoint)
    bounds = training.bounds(some, SAMPLES)
    np.savez_compressed(
        folder / f"{run.name}.npz",
        images=np.packbits(some),
        frequencies=images.frequencies(),
        bound=-bounds.importance_weighted / KEPT,
        error=bounds.importance_weighted_error / KEPT,
        **{name: np.asarray(x) for name, x in training.svi.get_params(training.state).items()},
    )


def train(run: Run, images: Images, folder: Path, samples: int) -> dict[str, Any]:
    """Train, or go on where a run of the same name was cut, and write the run's JSON.

    Args:
        run: The run.
        images: The images.
        folder: Where the JSON goes, and beside it the last checkpoint.
        samples: The number of samples of the bound of the test images; with 0 it is left out.

    Returns:
        What the JSON has.
    """
    training = started(run, images)
    curve = list(fit(run, images, training, folder))
    result: dict[str, Any] = {
        **vars(run),
        "command": shlex.join(["python", "-m", "benchmarks.table1", *sys.argv[1:]]),
        "machine": machine.processor(),
        "versions": machine.versions("relaxed-dists", *PACKAGES[run.framework], "numpy"),
        "seconds": curve[-1]["seconds"],
        "milliseconds_a_step": 1e3 * curve[-1]["seconds"] / run.steps,
        "curve": curve,
        "validation": bound(training, images.validation, VALIDATION),
    }
    if samples:
        result["test"] = bound(training, images.test, samples)
        if run.model.temperatures:
            result["bounds"] = relaxed(training, images.test, result)
    (folder / f"{run.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result
