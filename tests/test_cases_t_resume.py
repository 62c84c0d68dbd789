"""Training that is resumed, checkpoints, and loops over temperatures that are written by hand."""

import functools
import importlib
import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import Backend
from relaxed_dists.schedules import linear
from training import DATA, OPTIMISERS, Sides, elbo

TESTS = Path(__file__).parent


# Pyro: every way in which a module comes into a model, in a new process.


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_t1_a_new_process_goes_on_as_the_uninterrupted_one(tmp_path: Path) -> None:
    """Losses, an evaluation and all parameters, bit for bit; from other initial values and noise.

    A loss that Pyro itself computes right after the load, before any call of the SVI, is right too.
    """
    pyro, resuming = pytest.importorskip("pyro"), importlib.import_module("resuming")
    whole: dict[str, Any] = {}
    for name in resuming.PROGRAMS:
        pyro.set_rng_seed(0)
        svi = resuming.make(name)
        for _ in range(3):
            svi.step(resuming.X)
        svi.save(tmp_path / name)
        start = resuming.modules(svi)
        early = None if name in resuming.LATE else resuming.at_once(svi)
        whole[name] = {"early": early, "onwards": resuming.onwards(svi)}
        assert whole[name]["onwards"][-len(start) :] != start
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, str(TESTS / "resuming.py"), str(tmp_path)]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    resumed = json.loads(found.stdout)
    assert [name for name in whole if resumed[name] != whole[name]] == []


# Files: cut short, damaged, hostile; in both frameworks.


class Hostile:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Training:
    """A training in either framework behind one small interface."""

    def __init__(self, backend: Backend, optimiser: str = "scheduler", seed: int = 0) -> None:
        sides = Sides(backend, minibatch=5)
        temperature = {"prior": 0.7, "posterior": linear(1.0, 0.5, 10)}
        optim = OPTIMISERS[backend.framework][optimiser]()
        args = sides.model, sides.guide, optim, elbo(backend, "one particle")
        self.svi = backend.names.AnnealedSVI(*args, temperature)
        self.x, self.state, self.pyro = backend.array(DATA), None, backend.framework == "pyro"
        if self.pyro:
            pyro = importlib.import_module("pyro")
            pyro.clear_param_store()
            pyro.set_rng_seed(seed)
        else:
            jax = importlib.import_module("jax")
            self.state = self.svi.init(jax.random.key(seed), self.x)
            self.update = jax.jit(self.svi.update)

    def steps(self, number: int) -> list[float]:
        """The losses of some steps."""
        if self.pyro:
            return [self.svi.step(self.x) for _ in range(number)]
        losses = []
        for _ in range(number):
            self.state, loss = self.update(self.state, self.x)
            losses.append(float(loss))
        return losses

    def locs(self) -> bytes:
        """The numbers of a parameter."""
        if self.pyro:
            return importlib.import_module("pyro").param("locs").detach().numpy().tobytes()
        return np.asarray(self.svi.get_params(self.state)["locs"]).tobytes()

    def save(self, path: Path) -> None:
        """Save."""
        self.svi.save(path, *([] if self.pyro else [self.state]))

    def load(self, path: Path) -> None:
        """Load."""
        if self.pyro:
            self.svi.load(path)
        else:
            self.state = self.svi.load(path, self.state)


def hostile_files(backend: Backend, target: Path) -> list[Callable[[Path], object]]:
    """Writers of files that make the target when they are unpickled."""
    raw = pickle.dumps(Hostile(target))
    made: list[Callable[[Path], object]] = [lambda path: path.write_bytes(raw)]
    if backend.framework == "pyro":
        torch = importlib.import_module("torch")
        return [*made, functools.partial(torch.save, {"steps": Hostile(target)})]
    kinds = np.array(Hostile(target), object)

    def archive(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, kinds=kinds)

    return [*made, archive]


def test_t1_a_hostile_pickle_is_refused(backend: Backend, tmp_path: Path) -> None:
    """Whether it is the file or inside of it; plain unpickling would have made a file."""
    training, target, path = Training(backend), tmp_path / "made", tmp_path / "checkpoint"
    for write in hostile_files(backend, target):
        write(path)
        with pytest.raises(ValueError, match="can't be read as a checkpoint"):
            training.load(path)
        assert not target.exists()
    pickle.loads(pickle.dumps(Hostile(target)))
    assert target.exists()


def test_t1_a_damaged_file_leaves_the_training_as_it_was(backend: Backend, tmp_path: Path) -> None:
    """Cut short anywhere, a byte changed, empty, no file: an error that names it, and the same
    losses after it as without.
    """
    path, training = tmp_path / "checkpoint", Training(backend)
    training.steps(2)
    training.save(path)
    content = path.read_bytes()
    place = content.index(training.locs())
    training.steps(2)
    losses = training.steps(3)
    training = Training(backend)
    training.steps(4)
    cuts = [content[: int(len(content) * part)] for part in (0.0, 0.1, 0.5, 0.9, 0.999)]
    changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for damaged in [*cuts, b"no checkpoint", changed]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"got the file '{re.escape(str(path))}'"):
            training.load(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        training.load(path)
    assert training.steps(3) == losses


def test_t1_a_training_goes_back(backend: Backend, tmp_path: Path) -> None:
    """Into the process that has gone on, twice, and from the one file into another training."""
    path, training = tmp_path / "checkpoint", Training(backend, "clipped adam")
    training.steps(3)
    training.save(path)
    losses = training.steps(3)
    for _ in range(2):
        training.load(path)
        assert training.steps(3) == losses
    other = Training(backend, "clipped adam", seed=9)
    other.steps(1)
    other.load(path)
    assert other.steps(3) == losses


def test_t1_saving_replaces_the_file_at_once(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that fails, before the file is on disk, leaves the old one and nothing else; a link
    stays one.
    """
    path, link, training = tmp_path / "checkpoint", tmp_path / "link", Training(backend)
    training.save(path)
    before = path.read_bytes()
    link.symlink_to(path)
    training.steps(1)

    def full(number: int) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="disk full"):
            training.save(path)
    assert path.read_bytes() == before
    training.save(link)
    assert link.is_symlink()
    assert path.read_bytes() != before
    assert sorted(tmp_path.iterdir()) == [path, link]


# Loops over temperatures that are written by hand.


def test_t7_a_temperature_without_a_schedule(backend: Backend) -> None:
    """It reaches whichever of the two takes it, in every method: the loss is that of a schedule."""
    sides = Sides(backend)
    temperature = {"prior": 0.7, "posterior": 0.5}

    def fixed(side: Any) -> Any:
        return lambda x: side(x, temperature)

    pairs = [
        (sides.model, sides.guide),
        (fixed(sides.model), sides.guide),
        (sides.model, fixed(sides.guide)),
    ]
    found = []
    for schedule in (temperature, None):
        for model, guide in pairs:
            optim = OPTIMISERS[backend.framework]["adam"]()
            args = model, guide, optim, elbo(backend, "one particle")
            svi = backend.names.AnnealedSVI(*args, schedule)
            given = {} if schedule else {"temperature": temperature}
            found.append(losses_of_all_methods(backend, svi, given))
    np.testing.assert_array_equal(found, found[:1] * 6)


def losses_of_all_methods(backend: Backend, svi: Any, kwargs: dict[str, Any]) -> list[float]:
    """Those of a step and of an evaluation under both names."""
    x = backend.array(DATA)
    if backend.framework == "numpyro":
        jax = importlib.import_module("jax")
        state = svi.init(jax.random.key(0), x, **kwargs)
        state, loss = svi.update(state, x, **kwargs)
        rest = [svi.evaluate(state, x, **kwargs), svi.evaluate_loss(state, x, **kwargs)]
        return [float(each) for each in (loss, *rest)]
    pyro = importlib.import_module("pyro")
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    losses = [svi.step(x, **kwargs)]
    for evaluate in (svi.evaluate, svi.evaluate_loss):
        pyro.set_rng_seed(1)
        losses.append(evaluate(x, **kwargs))
    return losses


def test_t7_a_temperature_that_nobody_takes(backend: Backend) -> None:
    """The error of a schedule that nobody takes."""
    sides = Sides(backend)
    temperature = {"prior": 0.7, "posterior": 0.5}
    model = functools.partial(sides.model, temperature=temperature)
    guide = functools.partial(sides.guide, temperature=temperature)
    optim = OPTIMISERS[backend.framework]["adam"]()
    svi = backend.names.AnnealedSVI(model, guide, optim, elbo(backend, "one particle"))
    losses_of_all_methods(backend, svi, {})
    text = "both take no argument named temperature; expected at least one that does. Add"
    with pytest.raises(ValueError, match=text):
        losses_of_all_methods(backend, svi, {"temperature": temperature})


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "max": lambda s: max(0.5, 1.0 - 1e-3 * s),
    "math": lambda s: 0.5 + math.exp(-1e-3 * s),
    "if": lambda s: 1.0 if s < 10 else 0.5,
    "numpy": lambda s: np.maximum(0.5, 1.0 - 1e-3 * s),
    "index": lambda s: [1.0, 0.9, 0.8][s],
}


@pytest.mark.parametrize("backend", ["numpyro"], indirect=True)
def test_t7_a_schedule_that_cannot_be_traced(backend: Backend) -> None:
    """Our error in run and in a compiled update; where the step is a number it works."""
    jax = importlib.import_module("jax")
    sides, x = Sides(backend), backend.array(DATA)
    args = OPTIMISERS["numpyro"]["adam"](), elbo(backend, "one particle")
    text = "A temperature schedule can't compute with a traced step .*Write jnp.maximum, jnp.exp"
    for schedule in SCHEDULES.values():
        temperature = {"prior": 1.0, "posterior": schedule}
        svi = backend.names.AnnealedSVI(sides.model, sides.guide, *args, temperature)
        with pytest.raises(ValueError, match=text):
            svi.run(jax.random.key(0), 3, x, progress_bar=False)
        state = svi.init(jax.random.key(0), x)
        with pytest.raises(ValueError, match=text):
            jax.jit(svi.update)(state, x)
        assert svi.current_temperature(state)["posterior"] >= 0.5
