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
    """The training in its own process."""
    command = [sys.executable, str(SCRIPT), backend.framework, str(path), str(steps)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def parameters(backend: Backend, path: Path, steps: int, forget: bool = False) -> np.ndarray:
    """The parameters after each step of a training in this process."""
    run = restarting.training(backend, path, forget)
    return np.frombuffer(next(end for step, end in run if step == steps))


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
    with start(backend, path, 10) as second:
        *steps, end = second.stdout.read().split()
    assert second.returncode == 0
    assert int(steps[0]) > at
    last = int(steps[-1])
    assert list(map(int, steps)) == list(range(last - 9, last + 1))
    ended = np.frombuffer(bytes.fromhex(end))

    whole = parameters(backend, tmp_path / "whole", last)
    np.testing.assert_array_equal(ended, whole)
    assert abs(whole).max() > 0.05
    path.write_bytes(left)
    assert (parameters(backend, path, last, forget=True) != whole).any()
