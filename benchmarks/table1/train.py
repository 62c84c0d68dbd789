"""Trains one run, and writes its JSON."""

import importlib
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import machine
from benchmarks.table1.data import Images
from benchmarks.table1.runs import EPOCH, SAMPLES, Run

POINTS = 12  # of the curve
SHORT = (1000, 10)  # images and samples of the bound in the curve
VALIDATION = 100  # samples of the bound by which a step size is chosen
PART = 1000  # images that are evaluated together


def bound(training: Any, images: np.ndarray, samples: int, title: str) -> dict[str, float]:
    """Minus the importance-weighted bound of an image, with two standard errors.

    `error` is that of the choice of images, from the means of the parts; `sampling_error` is that
    of the samples.
    """
    bounds = [
        training.bounds(images[start : start + PART], samples)
        for start in tqdm(range(0, len(images), PART), title, leave=False)
    ]
    parts = -np.array([b.importance_weighted for b in bounds]) / PART
    sampling = [b.importance_weighted_error / PART for b in bounds]
    return {
        "bound": float(parts.mean()),
        "error": float(parts.std(ddof=1) / np.sqrt(len(parts))),
        "sampling_error": float(np.linalg.norm(sampling) / len(parts)),
        "elbo": float(-np.mean([b.elbo for b in bounds]) / PART),
        "samples": samples,
    }


def train(run: Run, images: Images, folder: Path, test: bool) -> dict[str, Any]:
    """Train, or go on where a run of the same name was cut, and write the run's JSON.

    Args:
        run: The run.
        images: The images.
        folder: Where the JSON goes. Until the end a checkpoint is beside it.
        test: Whether to compute the bound of the test images.
    """
    training = importlib.import_module(f"benchmarks.table1.in_{run.framework}").Training(
        run, images
    )
    checkpoint, sidecar = folder / f"{run.name}.checkpoint", folder / f"{run.name}.curve"
    curve: list[dict[str, float]] = []
    if checkpoint.exists():
        training.load(checkpoint)
        curve = [p for p in json.loads(sidecar.read_text()) if p["step"] <= training.steps]
    seconds = curve[-1]["seconds"] if curve else 0.0  # of training alone
    epochs, start = run.steps // EPOCH, training.steps // EPOCH
    every, losses = max(epochs // POINTS, 1), []
    with tqdm(range(start, epochs), run.name, epochs, initial=start, unit="epoch") as bar:
        for epoch in bar:
            began = time.process_time()  # other programs lengthen it less than the time of day
            losses.append(training.epoch(run.order(epoch)))
            seconds += time.process_time() - began
            bar.set_postfix(loss=f"{losses[-1]:.2f}")
            if (epoch + 1) % every and epoch + 1 < epochs:
                continue
            some, samples = SHORT
            found = training.bounds(images.validation[:some], samples)
            point = {
                "step": training.steps,
                "temperature": float(training.schedule(training.steps - 1)),
                "loss": float(np.mean(losses)),
                "validation": -found.importance_weighted / some,
                "seconds": seconds,
            }
            curve.append(point)
            losses.clear()
            sidecar.write_text(json.dumps(curve))
            training.save(checkpoint)
    packages = {"numpyro": ("jax", "numpyro", "optax"), "pyro": ("torch", "pyro-ppl")}
    result: dict[str, Any] = {
        **vars(run),
        "command": shlex.join(["python", "-m", "benchmarks.table1", *sys.argv[1:]]),
        "machine": machine.processor(),
        "versions": machine.versions("relaxed-dists", *packages[run.framework], "numpy"),
        "seconds": curve[-1]["seconds"],
        "milliseconds_a_step": 1e3 * curve[-1]["seconds"] / run.steps,
        "curve": curve,
        "validation": bound(training, images.validation, VALIDATION, "validation"),
    }
    if test:
        result["test"] = bound(training, images.test, SAMPLES, "test")
    (folder / f"{run.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    for file in (checkpoint, sidecar):
        file.unlink()
    return result
