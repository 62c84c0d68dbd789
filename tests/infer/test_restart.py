"""A training process that is killed goes on from its last checkpoint as if nothing had happened."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

import restarting
from harness import Backend

SCRIPT = Path(restarting.__file__)


def start(backend: Backend, path: Path, steps: int) -> "subprocess.Popen[str]":
    """The training in its own process.

    NumPyro adds the terms of a loss in the order of a set of names, which a process has by its hash
    seed. In JAX 0.5.3, rounding depends on that order.
    """
    command = [sys.executable, str(SCRIPT), backend.framework, str(path), str(steps)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])}
    env["PYTHONHASHSEED"] = "0"
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def finish(backend: Backend, path: Path, steps: int) -> tuple[list[int], np.ndarray]:
    """The numbers of a training's steps, and the parameters at its end."""
    with start(backend, path, steps) as run:
        *numbers, end = run.stdout.read().split()
    assert run.returncode == 0
    return list(map(int, numbers)), np.frombuffer(bytes.fromhex(end))


def test_a_killed_training_ends_where_the_whole_one_does(
    backend: Backend, tmp_path: Path, seed: int
) -> None:
    """A process gets SIGKILL at a random step; a new process makes 10 more steps.

    The parameters equal those of as many steps without a break, bit for bit, so temperatures,
    learning rate, minibatches and noise have gone on. Without the saved random stream they differ.
    """
    path, at = tmp_path / "checkpoint", int(np.random.default_rng(seed).integers(3, 25))
    with start(backend, path, 10**6) as first:
        for line in first.stdout:
            if int(line) >= at:
                first.kill()
                break
    assert first.returncode == -signal.SIGKILL
    left = path.read_bytes()
    steps, ended = finish(backend, path, 10)
    assert steps[0] > at
    last = steps[-1]
    assert steps == list(range(last - 9, last + 1))

    whole = finish(backend, tmp_path / "whole", last)[1]
    np.testing.assert_array_equal(ended, whole)
    assert abs(whole).max() > 0.05
    path.write_bytes(left)
    run = restarting.training(backend, path, forget=True)
    other = np.frombuffer(next(end for step, end in run if step == last))
    assert abs(other - whole).max() > 1e-6
