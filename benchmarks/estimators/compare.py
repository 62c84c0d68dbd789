"""Trains a problem in every way, in a process of its own, and writes the results."""

import argparse
import json
import os
import time
from typing import Any

from benchmarks import machine


def pin(cores: Any) -> None:
    """Bind a process to a core of its own, since JAX has no setting for one thread."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


def compare(name: str, command: str, options: argparse.Namespace) -> None:
    """Train one problem in every way that is missing, then time the steps."""
    from benchmarks.estimators import problems, training

    problem, path = problems.PROBLEMS[name](), options.results / f"{name}.json"
    if options.steps or options.quick:
        problem.steps = options.steps or max(training.CHUNK, problem.steps // 50 * 10)
    if options.quick:
        problem.rates = problem.rates[1:2]
    settings = {
        "problem": name,
        "about": problem.about,
        "steps": problem.steps,
        "batch": problem.batch,
        "data": [len(part) for part in problem.parts],
        "rates": list(problem.rates),
        "seeds": options.seeds,
    }
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"ways": {}}
    if any(result.get(key, value) != value for key, value in settings.items()):
        raise SystemExit(
            f"{path} is of another run; expected one of these settings: {settings}. Move it away, "
            "or pass --results."
        )
    result |= settings | {
        "command": command,
        "machine": machine.processor(),
        "versions": machine.versions("numpyro", "jax", "optax", "numpy"),
    }
    chosen = [x for x in training.labels(problem) if any(part in x for part in options.only)]
    if all("ms" in result["ways"].get(label, {}) for label in chosen):
        return
    trainings = {}
    for label in chosen:
        trainings[label] = training.Training(problem, label, problem.steps)
        if label not in result["ways"]:
            began = time.process_time()
            result["ways"][label] = training.measured(trainings[label], options.seeds)
            result["ways"][label]["seconds"] = round(time.process_time() - began, 1)
            path.write_text(json.dumps(result, indent=1))
            print(f"{name}: {label}, {result['ways'][label]['seconds']} s", flush=True)
    if training.FIRST in trainings:
        found = training.timed(trainings, seconds=0.5 if options.quick else 5.0)
        for label, times in found.items():
            result["ways"][label] |= times
    path.write_text(json.dumps(result, indent=1))
