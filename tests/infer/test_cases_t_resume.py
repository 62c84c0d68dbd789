"""Resumed training, checkpoints, and manual loops over temperatures."""

import copy
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
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from harness import SUPPORT, Backend
from relaxed_dists.schedules import linear
from training import DATA, OPTIMISERS, Sides, elbo

# Tests in Pyro of every way to use a module in a model, in a new process.


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*the trace")
def test_t1_a_new_process_goes_on_as_the_uninterrupted_one(tmp_path: Path) -> None:
    """Losses, an evaluation and all parameters are equal bit for bit, from other initial values.

    A loss that Pyro itself computes right after the load is equal too. So are the results after a
    load into a training that has gone on, and after a save right after a load.
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
        onwards = resuming.onwards(svi)
        assert onwards[-len(start) :] != start
        whole[name] = {"early": early, "onwards": onwards, "again": onwards}
        assert resuming.again(svi, tmp_path / name) == onwards
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    command = [sys.executable, str(SUPPORT / "resuming.py"), str(tmp_path)]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    resumed = json.loads(found.stdout)
    assert [name for name in whole if resumed[name] != whole[name]] == []


# Tests of truncated, damaged and hostile files, in both frameworks.


class Hostile:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Training:
    """A training in either framework behind one small interface."""

    compiled: ClassVar[list[Any]] = []  # NumPyro's SVI has no state: tests share it

    def __init__(self, backend: Backend, seed: int = 0) -> None:
        sides = Sides(backend, minibatch=5)
        temperature = {"prior": 0.7, "posterior": linear(1.0, 0.5, 10)}
        optim = OPTIMISERS[backend.framework]["scheduler"]()
        args = sides.model, sides.guide, optim, elbo(backend, "one particle")
        self.svi = backend.names.AnnealedSVI(*args, temperature)
        self.x, self.state, self.pyro = backend.array(DATA), None, backend.framework == "pyro"
        if self.pyro:
            pyro = importlib.import_module("pyro")
            pyro.clear_param_store()
            pyro.set_rng_seed(seed)
        else:
            jax = importlib.import_module("jax")
            if not self.compiled:
                self.compiled[:] = self.svi, jax.jit(self.svi.init), jax.jit(self.svi.update)
            self.svi, init, self.update = self.compiled
            self.state = init(jax.random.key(seed), self.x)

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
        """The numbers of the parameter locs, as bytes."""
        if self.pyro:
            return importlib.import_module("pyro").param("locs").detach().numpy().tobytes()
        return np.asarray(self.svi.get_params(self.state)["locs"]).tobytes()

    def save(self, path: Path) -> None:
        """Save the training."""
        self.svi.save(path, *([] if self.pyro else [self.state]))

    def load(self, path: Path) -> None:
        """Load the training."""
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
    """Neither a pickle file nor a pickle inside an archive runs; unpickling would make a file."""
    training, target, path = Training(backend), tmp_path / "made", tmp_path / "checkpoint"
    for write in hostile_files(backend, target):
        write(path)
        text = (
            r"can't be read as a checkpoint \(\w+: .*(not a zip file|allowed global|pickle).*\); "
        )
        with pytest.raises(ValueError, match=text):
            training.load(path)
        assert not target.exists()
    pickle.loads(pickle.dumps(Hostile(target)))
    assert target.exists()


def test_t1_a_damaged_file_leaves_the_training_as_it_was(backend: Backend, tmp_path: Path) -> None:
    """A truncated, changed, empty or missing file raises an error; losses stay the same."""
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


def goes_back(backend: Backend, tmp_path: Path) -> None:
    """Assert that a training repeats its losses from a file."""
    path, training = tmp_path / "checkpoint", Training(backend)
    training.steps(3)
    training.save(path)
    losses = training.steps(3)
    for _ in range(2):
        training.load(path)
        assert training.steps(3) == losses
    other = Training(backend, seed=9)
    other.steps(1)
    other.load(path)
    assert other.steps(3) == losses


def test_t1_a_training_goes_back(backend: Backend, tmp_path: Path) -> None:
    """A load twice repeats the losses of a training that has gone on, and of another training."""
    goes_back(backend, tmp_path)


@pytest.mark.parametrize("part", ["parameters", "generator", "optimiser"])
def test_t1_a_training_that_loses_a_part_fails(
    backend: Backend, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load without parameters, random generators or optimiser gives other losses."""
    where: Any = importlib.import_module(f"relaxed_dists_{backend.framework}.infer.checkpoint")
    if backend.framework == "pyro":
        if part == "optimiser":
            optim = importlib.import_module("pyro.optim").PyroOptim
            monkeypatch.setattr(optim, "set_state", lambda *args: None)
        else:
            name = {"parameters": "_fill", "generator": "set_rng_state"}[part]
            monkeypatch.setattr(where, name, lambda *args, **kwargs: None)
    else:
        load, jax = where.load, importlib.import_module("jax")

        def lossy(svi: Any, path: Path, state: Any) -> Any:
            found = load(svi, path, state)
            if part == "generator":
                return found._replace(rng_key=state.rng_key)
            step, inner = found.optim_state
            if part == "optimiser":
                return found._replace(optim_state=(state.optim_state[0], inner))
            other = jax.tree.map(lambda x: x + 1 if x.ndim else x, inner)
            return found._replace(optim_state=(step, other))

        monkeypatch.setattr(where, "load", lossy)
    with pytest.raises(AssertionError):
        goes_back(backend, tmp_path)


def test_t1_saving_replaces_the_file_at_once(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that fails leaves the old file and no other; a link stays a link."""
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


# Tests in Pyro: a state that does not fit raises before anything is changed.


def numbers(value: Any) -> Any:
    """A nest with lists in place of tensors, arrays and tuples, for comparison."""
    if isinstance(value, dict):
        return {key: numbers(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [numbers(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _smaller(state: Any) -> None:
    tensors = state["params"]["params"]
    tensors["encoder$$$0.bias"].data += 1.0
    tensors["encoder$$$3.weight"] = tensors["encoder$$$3.weight"][:2]


def _of_sgd(state: Any) -> None:
    torch = importlib.import_module("torch")
    sgd = torch.optim.SGD([torch.zeros(1)]).state_dict()
    state["optim"] = dict.fromkeys(state["optim"], sgd)


def _without_a_parameter(state: Any) -> None:
    for part in state["params"].values():
        del part["encoder$$$3.weight"]


def _constraint(path: str) -> Callable[[Any], None]:
    def change(state: Any) -> None:
        state["params"]["constraints"]["encoder$$$3.weight"] = {"class": path, "fields": {}}

    return change


def _rest(state: Any) -> None:
    (name,) = (name for name in state["rest"] if name.endswith("running_mean"))
    state["rest"][name] = state["rest"][name].double()


UNFIT: dict[str, tuple[Callable[[Any], Any], str]] = {
    "keys": (lambda s: s.update(step=3), r"with the keys \[.*'step'.*; expected a dictionary with"),
    "steps": (lambda s: s.update(steps="3"), "with steps of type str; expected type int"),
    "no tensor": (
        lambda s: s["params"]["params"].update({"encoder$$$0.bias": 1.0}),
        "with a float as the parameter 'encoder",
    ),
    "half of params": (lambda s: s["params"].pop("constraints"), "with malformed params; expected"),
    "shape": (
        _smaller,
        r"with 'encoder\$\$\$3.weight' of shape \(2, 3\) and dtype torch.float32; expected shape "
        r"\(3, 3\) and dtype torch.float32, as in this process",
    ),
    "dtype": (_rest, r"running_mean' of shape \(3,\) and dtype torch.float64; expected shape"),
    "optimiser": (_of_sgd, r"the optimiser's settings \[.*'momentum'.*; expected those of Adam"),
    "optim": (lambda s: s["optim"].update({"encoder$$$0.bias": {}}), "with a malformed optim or"),
    "generator": (lambda s: s["rng"].pop("torch"), r"with a malformed optim or rng \('torch'\)"),
    "rank": (
        lambda s: s["rng"].update(rank=1),
        "the random generators of rank 1, in rank 0; expected those of rank 0: ranks that draw the "
        "same noise .* Load what this rank saved, or leave 'rng' out of the state and seed each",
    ),
    "missing": (
        _without_a_parameter,
        r"without the parameters 'encoder\$\$\$3.weight', which this",
    ),
    "a function": (_constraint("os:system"), "with the constraint 'os:system' of the parameter"),
    "elsewhere": (_constraint("this.nowhere:X"), "expected a constraint whose class this process"),
}


def test_t1_what_does_not_fit_is_refused() -> None:
    """Each wrong state raises; parameters, optimiser, generators and modules don't change."""
    pyro, resuming = pytest.importorskip("pyro"), importlib.import_module("resuming")
    pyro.set_rng_seed(0)
    svi = resuming.make("normalised")
    for _ in range(2):
        svi.step(resuming.X)
    state = copy.deepcopy(svi.state_dict())
    svi.step(resuming.X)
    before = numbers(svi.state_dict())
    for name, (change, text) in UNFIT.items():
        changed = copy.deepcopy(state)
        change(changed)
        with pytest.raises(ValueError, match=text) as error:
            svi.load_state_dict(changed)
        assert "Nothing was changed." in str(error.value), name
        assert numbers(svi.state_dict()) == before, name
    with pytest.raises(ValueError, match="with no dictionary; expected a dictionary"):
        svi.load_state_dict([])
    svi.load_state_dict(state)
    assert numbers(svi.state_dict()) == numbers(state)


def test_t1_other_modules_in_a_new_process() -> None:
    """The first call refuses another shape or name, and warns about missing parameters."""
    pyro, resuming = pytest.importorskip("pyro"), importlib.import_module("resuming")
    nn, infer = importlib.import_module("torch.nn"), importlib.import_module("pyro.infer")

    def make(name: str, encoder: Any, registered: bool = True) -> Any:
        pyro.clear_param_store()

        def guide(x: Any) -> None:
            if registered:
                pyro.module(name, encoder[0])
            encoder[0].train()
            resuming.codes(encoder[0](x), 0.5)

        args = resuming.components, guide, pyro.optim.Adam({"lr": 0.05})
        return resuming.AnnealedSVI(*args, infer.TraceMeanField_ELBO())

    def network(hidden: int) -> Any:
        return nn.Sequential(nn.Linear(1, hidden), nn.Linear(hidden, 3), nn.BatchNorm1d(3))

    svi = make("encoder", (network(2),))
    svi.step(resuming.X)
    state = copy.deepcopy(svi.state_dict())

    # The module is in a set, which is not searched: the first call shows its shapes.
    for call in ("step", "evaluate"):
        svi = make("encoder", Hidden(network(4)))
        svi.load_state_dict({key: state[key] for key in state if key != "rest"})
        text = (
            r"^AnnealedSVI has loaded the parameter 'encoder\$\$\$0.weight' of shape \(2, 1\) and "
            r"dtype torch.float32, and now model or guide registers it with shape \(4, 1\) and "
        )
        for _ in range(2):
            with pytest.raises(ValueError, match=text):
                getattr(svi, call)(resuming.X)
    svi = make("encoder", (network(4),))
    with pytest.raises(ValueError, match=r"0.weight' of shape \(2, 1\) .* expected shape \(4, 1\)"):
        svi.load_state_dict(state)
    svi = make("another", Hidden(network(2)))
    svi.load_state_dict({key: state[key] for key in state if key != "rest"})
    text = r"'encoder\$\$\$0.weight', .* and 1 more, which neither .*, while they register 'another"
    for _ in range(2):
        with pytest.raises(ValueError, match=text):
            svi.step(resuming.X)
    svi.load_state_dict(state)
    pyro.clear_param_store()
    with pytest.raises(ValueError, match="were cleared from Pyro's param store before its first"):
        svi.step(resuming.X)
    svi = make("encoder", Hidden(network(2)), registered=False)
    svi.load_state_dict(state)
    with pytest.warns(UserWarning, match="AnnealedSVI has loaded") as warned:
        svi.evaluate(resuming.X)
    texts = [str(each.message) for each in warned]
    assert "has loaded the parameters 'encoder$$$0.bias', 'encoder$$$0.weight'" in texts[0]
    assert "num_batches_tracked'" in texts[1]
    assert "finds no such buffer or parameter" in texts[1]


def test_t1_deep_modules_are_found_beside_many_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is found with all its parts, even if a guide reaches many objects first."""
    pytest.importorskip("pyro")
    nn = importlib.import_module("torch.nn")
    holding = importlib.import_module("relaxed_dists_pyro.infer.holding")
    encoder = nn.BatchNorm1d(3)
    for _ in range(5):
        encoder = nn.Sequential(nn.Linear(3, 3), encoder)
    others = [Hidden(i) for i in range(100)]

    def guide() -> tuple[Any, Any]:
        return others, encoder

    monkeypatch.setattr(holding, "_MAX_OBJECTS", 50)
    with pytest.warns(UserWarning, match="looked at 50 objects .* neither saved nor loaded. Make"):
        found = holding.held_tensors(SimpleNamespace(model=None, guide=guide, loss=None))
    assert any(route.endswith("1.1.1.1.1.running_mean") for route in found)


class Hidden:
    """An object with a module that only __getitem__ returns."""

    def __init__(self, module: Any) -> None:
        self.held = {module}

    def __getitem__(self, key: int) -> Any:
        return next(iter(self.held))


def test_t1_constraints_are_written_without_pickle(tmp_path: Path) -> None:
    """torch's own, nested and user-defined constraints come back, equal in numbers and class.

    torch.load(weights_only=True) also reads the state from torch.save.
    """
    pyro, torch = pytest.importorskip("pyro"), importlib.import_module("torch")
    resuming, infer = importlib.import_module("resuming"), importlib.import_module("pyro.infer")
    some, names = pyro.distributions.constraints, "positive simplex lower_cholesky ordered_vector"
    table = {name: getattr(some, name) for name in names.split()}
    table |= {
        "interval": some.interval(np.float64(0.0), 2.0),
        "above": some.greater_than(torch.tensor([[-1.0], [0.5]])),
        "below": some.independent(some.less_than(5.0), 1),
        "cat": some.cat([some.positive, some.real], 0, [1, 1]),
        "mine": resuming.Positive(),
    }

    def exp(constraint: Any) -> Any:
        return torch.distributions.ExpTransform()

    def guide(x: Any, temperature: float) -> None:
        for name, constraint in table.items():
            start = torch.distributions.transform_to(constraint)(torch.ones(2, 2))
            pyro.param(name, start.detach(), constraint=constraint)
        resuming.codes(pyro.param("logits", torch.zeros(4, 3)), temperature)

    def make() -> Any:
        pyro.clear_param_store()
        args = pyro.optim.Adam({"lr": np.float64(0.05)}), infer.TraceMeanField_ELBO(), lambda s: 0.5
        return resuming.AnnealedSVI(resuming.components, guide, *args)

    torch.distributions.transform_to.register(resuming.Positive)(exp)
    svi = make()
    svi.step(resuming.X)
    torch.save(svi.state_dict(), tmp_path / "saved")
    values = numbers(dict(pyro.get_param_store().items()))
    onwards = resuming.onwards(svi)
    svi = make()
    svi.load_state_dict(torch.load(tmp_path / "saved", weights_only=True))
    assert numbers(dict(pyro.get_param_store().items())) == values
    for name, constraint in table.items():
        assert type(pyro.get_param_store()._constraints[name]) is type(constraint)
    assert resuming.onwards(svi) == onwards

    class Local(resuming.Positive):
        """A constraint whose class is local, and so can't be imported by name."""

    torch.distributions.transform_to.register(Local)(exp)
    table["mine"] = Local()
    svi = make()
    svi.step(resuming.X)
    svi.load_state_dict(copy.deepcopy(svi.state_dict()))
    with pytest.raises(ValueError, match=r"'mine' with the constraint .* Define its class"):
        svi.save(tmp_path / "not saved")
    del table["mine"]
    svi = make()
    svi.step(resuming.X)
    svi.optim.pt_optim_args["lr"] = Hidden(None)
    next(iter(svi.optim.optim_objs.values())).param_groups[0]["lr"] = Hidden(None)
    with pytest.raises(ValueError, match="got a state that can't be read without pickle"):
        svi.save(tmp_path / "not saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_t1_states_of_older_versions_are_loaded() -> None:
    """States with constraint objects and NumPy arrays, and without modules, can be loaded.

    Running statistics that a user loads separately stay as they were loaded.
    """
    pyro, resuming = pytest.importorskip("pyro"), importlib.import_module("resuming")
    for program in ("parameters", "normalised"):
        pyro.set_rng_seed(0)
        svi = resuming.make(program)
        svi.step(resuming.X)
        store = pyro.get_param_store().get_state()
        old = {"steps": 1, "optim": svi.optim.get_state(), "params": store}
        old = copy.deepcopy({**old, "rng": pyro.util.get_rng_state()})
        rest = copy.deepcopy(svi.state_dict()["rest"])
        onwards = resuming.onwards(svi)
        svi = resuming.make(program)
        svi.load_state_dict({"rest": rest})
        svi.load_state_dict(old)
        assert resuming.onwards(svi) == onwards


def test_t1_parameters_outside_of_the_store_cannot_be_saved() -> None:
    """module_local_params raises, since a checkpoint would not have these parameters."""
    pyro, resuming = pytest.importorskip("pyro"), importlib.import_module("resuming")
    nn, infer = importlib.import_module("pyro.nn"), importlib.import_module("pyro.infer")

    class Guide(nn.PyroModule):
        """A guide."""

        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.PyroParam(importlib.import_module("torch").zeros(4, 3))

        def forward(self, x: Any) -> None:
            """Draw the codes."""
            resuming.codes(self.logits, 0.5)

    with pyro.settings.context(module_local_params=True):
        args = resuming.components, Guide(), pyro.optim.Adam({"lr": 0.05})
        svi = resuming.AnnealedSVI(*args, infer.TraceMeanField_ELBO())
        svi.step(resuming.X)
        with pytest.raises(ValueError, match="that are not in Pyro's param store, as under"):
            svi.state_dict()


def test_t1_an_automatic_guide_asks_for_its_first_call() -> None:
    """discrete_posterior raises after a load, and is the saved one after an evaluation."""
    pyro, resuming = pytest.importorskip("pyro"), importlib.import_module("resuming")
    svi = resuming.make("relaxed_and_continuous")
    for _ in range(2):
        svi.step(resuming.X)
    probs = svi.guide.discrete_posterior()["z"].probs.tolist()
    state = copy.deepcopy(svi.state_dict())
    pyro.set_rng_seed(9)
    svi = resuming.make("relaxed_and_continuous")
    svi.load_state_dict(state)
    with pytest.raises(ValueError, match="before its first call"):
        svi.guide.discrete_posterior()
    with importlib.import_module("torch").no_grad():
        svi.evaluate(resuming.X)
    assert svi.guide.discrete_posterior()["z"].probs.tolist() == probs


# Tests in NumPyro of all kinds of leaf, and of states that do not fit.


def various(optim: Any, names: str = "a/b c", size: int = 2, dtype: str = "bfloat16") -> Any:
    """An SVI with numbers of half precision, a mutable state and a weakly typed parameter."""
    numpyro, jnp = importlib.import_module("numpyro"), importlib.import_module("jax.numpy")

    def model(x: Any) -> None:
        seen = numpyro.primitives.mutable("seen", {"count": jnp.zeros((), jnp.int32)})
        seen["count"] += 1
        numpyro.sample("x", numpyro.distributions.Normal(x, 1.0))

    def guide(x: Any) -> None:
        first, second = (numpyro.param(name, jnp.ones(size, dtype)) for name in names.split())
        scale = numpyro.param("scale", 1.0, constraint=numpyro.distributions.constraints.positive)
        numpyro.sample("x", numpyro.distributions.Normal(first.sum() + second.sum(), scale))

    ours = importlib.import_module("relaxed_dists.numpyro")
    return ours.AnnealedSVI(model, guide, optim, numpyro.infer.Trace_ELBO())


def described(state: Any) -> list[Any]:
    """The leaves of a state: their class, dtype, weak type and numbers."""
    jax = importlib.import_module("jax")
    found = []
    for leaf in jax.tree.leaves(state):
        key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        data = np.asarray(jax.random.key_data(leaf) if key else leaf)
        found.append(
            (str(leaf.dtype), getattr(leaf, "weak_type", False), data.shape, data.tobytes())
        )
    return found


@pytest.mark.parametrize("kind", ["adam", "optax"])
def test_t1_numpyro_every_leaf_comes_back(kind: str, tmp_path: Path) -> None:
    """Keys of all kinds, bfloat16, weak types and mutable states are restored."""
    pytest.importorskip("numpyro")
    jax, optim = importlib.import_module("jax"), importlib.import_module("numpyro.optim")
    optax, path = importlib.import_module("optax"), tmp_path / "checkpoint"
    keys = {"adam": jax.random.key(0), "optax": jax.random.PRNGKey(0)}
    made = {"adam": lambda: optim.Adam(0.1), "optax": lambda: optax.adamw(0.1)}[kind]
    svi = various(made())
    update, key = jax.jit(svi.update), keys[kind]
    state, _ = update(jax.jit(svi.init)(key, 2.0), 2.0)
    svi.save(path, state)
    with np.load(path, allow_pickle=False) as arrays:
        assert ".rng_key" in arrays
    new = various(made())
    template = jax.jit(new.init)(jax.random.split(key)[0], 2.0)
    for like in (template, jax.eval_shape(lambda: template)):
        loaded = new.load(path, like)
        assert described(loaded) == described(state)
        assert jax.tree.structure(loaded) == jax.tree.structure(template)
    assert any(leaf[1] for leaf in described(state))
    other = state._replace(rng_key=jax.random.key(0, impl="rbg"))
    svi.save(tmp_path / "other", other)
    assert described(new.load(tmp_path / "other", other)) == described(other)
    (state, loss), (loaded, again) = update(state, 2.0), update(loaded, 2.0)
    assert described(loaded) == described(state)
    assert loss == again


def test_t1_numpyro_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Other optimisers, names, shapes and dtypes raise, and so does a result of svi.run."""
    pytest.importorskip("numpyro")
    jax, optim = importlib.import_module("jax"), importlib.import_module("numpyro.optim")
    path, key = tmp_path / "checkpoint", jax.random.key(0)
    svi = various(optim.Adam(0.1))
    state = svi.init(key, 2.0)
    svi.save(path, state)
    cases = [
        (various(optim.Adagrad(0.1)), "with the state of Adam; expected that of Adagrad"),
        (
            various(optim.Adam(0.1), "a/b d"),
            r"""without "\['d'\]" and with "\['c'\]"; expected the""",
        ),
        (
            various(optim.Adam(0.1), size=3),
            r"of shape \(2,\) and dtype bfloat16; expected shape \(3,\)",
        ),
        (various(optim.Adam(0.1), dtype="float32"), "and dtype bfloat16; expected .*dtype float32"),
    ]
    for other, text in cases:
        with pytest.raises(ValueError, match=f"got the file '{path}' .*{text}"):
            other.load(path, other.init(key, 2.0))
    raw = various(optim.Adam(0.1))
    with pytest.raises(
        ValueError, match=r"rng_key' of shape .* and dtype key<fry>; expected shape"
    ):
        raw.load(path, raw.init(jax.random.PRNGKey(0), 2.0))
    for wrong in (svi.run(key, 1, 2.0, progress_bar=False), None):
        text = f"got a {type(wrong).__name__} to save or load; expected an SVIState. Pass"
        with pytest.raises(ValueError, match=text):
            svi.save(path, wrong)
        with pytest.raises(ValueError, match=text):
            svi.load(path, wrong)


# Tests of manual loops over temperatures.


def test_t7_a_temperature_without_a_schedule(backend: Backend) -> None:
    """In every method, temperature= reaches model or guide, with the loss of a schedule."""
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
    """The losses of a step, of evaluate and of evaluate_loss."""
    x = backend.array(DATA)
    if backend.framework == "numpyro":
        jax = importlib.import_module("jax")

        def all_methods() -> Any:
            state = svi.init(jax.random.key(0), x, **kwargs)
            state, loss = svi.update(state, x, **kwargs)
            return loss, svi.evaluate(state, x, **kwargs), svi.evaluate_loss(state, x, **kwargs)

        return [float(each) for each in jax.jit(all_methods)()]
    pyro = importlib.import_module("pyro")
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    losses = [svi.step(x, **kwargs)]
    for evaluate in (svi.evaluate, svi.evaluate_loss):
        pyro.set_rng_seed(1)
        losses.append(evaluate(x, **kwargs))
    return losses


def test_t7_a_temperature_that_nobody_takes(backend: Backend) -> None:
    """A temperature that neither model nor guide takes as an argument raises an error."""
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


def test_t7_no_temperature_for_who_asks(backend: Backend) -> None:
    """Without a schedule or temperature= there is an error; a positional temperature works."""
    sides = Sides(backend)
    optim = OPTIMISERS[backend.framework]["adam"]()
    svi = backend.names.AnnealedSVI(sides.model, sides.guide, optim, elbo(backend, "one particle"))
    text = "got no temperature for a model or guide that asks for one; expected a schedule, or"
    with pytest.raises(ValueError, match=text):
        losses_of_all_methods(backend, svi, {})
    dist = backend.dist
    ppl = backend.ppl

    def model(x: Any, temperature: Any) -> None:
        ppl.sample("x", dist.Normal(0.0, temperature))

    args = OPTIMISERS[backend.framework]["adam"](), elbo(backend, "one particle")
    svi = backend.names.AnnealedSVI(model, model, *args)
    if backend.framework == "numpyro":
        jax = importlib.import_module("jax")
        assert svi.evaluate(svi.init(jax.random.key(0), 0.0, 0.5), 0.0, 0.5) == 0
    else:
        assert svi.evaluate(0.0, 0.5) == 0


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "max": lambda s: max(0.5, 1.0 - 1e-3 * s),
    "math": lambda s: 0.5 + math.exp(-1e-3 * s),
    "if": lambda s: 1.0 if s < 10 else 0.5,
    "numpy": lambda s: np.maximum(0.5, 1.0 - 1e-3 * s),
    "index": lambda s: [1.0, 0.9, 0.8][s],
}


@pytest.mark.parametrize("backend", ["numpyro"], indirect=True)
def test_t7_a_schedule_that_cannot_be_traced(backend: Backend) -> None:
    """run and a compiled update raise our error; a step that is a number works."""
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


def test_t1_parameters_of_other_batches(tmp_path: Path) -> None:
    """With a parameter per batch, training goes on with another batch and then with the first."""
    pyro, torch = pytest.importorskip("pyro"), pytest.importorskip("torch")
    from pyro.infer import Trace_ELBO

    from relaxed_dists.pyro import AnnealedSVI

    def model(i: int) -> None:
        pyro.sample("x", pyro.distributions.Normal(0.0, 1.0))

    def guide(i: int) -> None:
        loc = pyro.param(f"loc_{i}", torch.tensor(1.0))
        pyro.sample("x", pyro.distributions.Normal(loc, 1.0))

    svi = AnnealedSVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for i in range(2):
        svi.step(i)
    trained = pyro.param("loc_0").item()
    svi.save(tmp_path / "state.pt")
    pyro.clear_param_store()
    again = AnnealedSVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    again.load(tmp_path / "state.pt")
    with pytest.warns(UserWarning, match="'loc_0', 'loc_1', which neither model nor guide"):
        again.step(2)
    again.evaluate_loss(0)
    assert pyro.param("loc_0").item() == trained != 1.0
