"""The state of a training: what AnnealedSVI saves, and how it goes back to where it came from.

Pyro's param store and the modules of a model hold the same tensors only as long as nobody replaces
them, and the store's own set_state does. Here loaded numbers are copied into tensors that are there
already. A parameter that is not there yet waits in the store until model or guide registers it;
then the tensor that they register takes the numbers.
"""

import copy
import os
import random
import sys
import types
import warnings
import zipfile
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer.util import zero_grads
from pyro.params.param_store import ParamStoreDict
from pyro.poutine import trace
from torch import Tensor, nn
from torch.distributions import constraints

from relaxed_dists import _errors_checkpoint

# Libraries whose functions hold no modules of the user's in their globals.
_LIBRARIES = {"torch", "pyro", "numpy", "relaxed_dists", "relaxed_dists_pyro"}
# The objects to look at, at most: a guide may hold a whole data set of them.
_MOST = 10_000

# Tensors of the param store that hold loaded numbers, which no param statement has asked for yet.
_waiting: dict[str, Tensor] = {}


# Random generators and constraints as what torch.load(weights_only=True) reads.


def rng_state() -> dict[str, Any]:
    """The states of the random generators, in tensors and numbers."""
    state = pyro.util.get_rng_state()
    name, keys, *rest = state["numpy"]
    state["numpy"] = [name, keys.tolist(), *rest]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any], scratch: bool = False) -> None:
    """Set the random generators, or scratch ones, to see whether the state is one."""
    # A map_location may have moved the states to a device.
    (torch.Generator() if scratch else torch.default_generator).set_state(state["torch"].cpu())
    version, words, gauss = state["random"]
    (random.Random() if scratch else random).setstate((version, tuple(words), gauss))
    if "numpy" in state:
        (np.random.RandomState() if scratch else np.random).set_state(tuple(state["numpy"]))
    if "cuda" in state and torch.cuda.is_available() and not scratch:
        for i, numbers in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(numbers.cpu(), i)


def _class(path: str) -> Any:
    """The class of a path as in "torch.distributions.constraints:_Real"; it imports nothing."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    fine = isinstance(found, type) and issubclass(found, constraints.Constraint)
    return found if fine else None


def _described(value: Any) -> Any:
    """A constraint as its class's path and its fields; itself if that does not describe it."""
    if isinstance(value, constraints.Constraint):
        path = f"{type(value).__module__}:{type(value).__qualname__}"
        fields = {name: _described(field) for name, field in vars(value).items()}
        plain = (bool, int, float, str, Tensor, list, dict, type(None))
        fine = _class(path) is type(value) and all(isinstance(f, plain) for f in fields.values())
        return {"class": path, "fields": fields} if fine else value
    if isinstance(value, list | tuple):
        return [_described(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _constraint(value: Any, source: str, name: str) -> Any:
    """The constraint of a description; a constraint, as Pyro saves it, is one already."""
    if isinstance(value, list):
        return [_constraint(entry, source, name) for entry in value]
    if not isinstance(value, dict):
        return value
    made = _class(value["class"])
    if made is None:
        raise _errors_checkpoint.unknown_constraint(source, name, value["class"])
    made = object.__new__(made)
    vars(made).update({k: _constraint(v, source, name) for k, v in value["fields"].items()})
    return made


# The modules that model and guide hold.


def _in_library(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES


def _names(code: types.CodeType) -> set[str]:
    """The names of globals that a function uses, and those inside it."""
    inner = (_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*inner)


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, each with its name in it."""
    if isinstance(thing, types.FunctionType):
        for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        if not _in_library(thing.__module__ or ""):
            names = _names(thing.__code__)
            for name in sorted(names & thing.__globals__.keys()):
                value = thing.__globals__[name]
                yield name, value
                if isinstance(value, types.ModuleType) and not _in_library(value.__name__):
                    yield from ((k, v) for k, v in vars(value).items() if k in names)
    elif isinstance(thing, types.MethodType):
        yield from (("self", thing.__self__), ("function", thing.__func__))
    elif isinstance(thing, partial):
        yield from (("function", thing.func), ("args", thing.args), ("kwargs", thing.keywords))
    elif isinstance(thing, dict):
        yield from ((str(name), value) for name, value in thing.items())
    elif isinstance(thing, list | tuple):
        yield from ((str(i), value) for i, value in enumerate(thing))
    else:
        yield from getattr(thing, "__dict__", {}).items()
        call = "forward" if isinstance(thing, nn.Module) else "__call__"
        yield call, getattr(type(thing), call, None)


def _modules(**roots: Any) -> dict[str, nn.Module]:
    """The modules that functions hold, use or are, each with the way to it.

    Such a way is the same in another process that runs the same program.
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    queue = deque(roots.items())
    while queue and len(seen) < _MOST:
        way, thing = queue.popleft()
        skipped = isinstance(thing, type | types.ModuleType | Tensor | np.ndarray | str)
        if skipped or id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found[way] = thing
        queue.extend((f"{way}.{name}", part) for name, part in _parts(thing))
    return found


def _ways(svi: Any) -> dict[str, Tensor]:
    """The parameters and buffers of an SVI's modules, each with a way to it."""
    found: dict[str, Tensor] = {}
    for way, module in _modules(model=svi.model, guide=svi.guide).items():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            saved = name not in module._non_persistent_buffers_set
            if saved and tensor is not None and not nn.parameter.is_lazy(tensor):
                found[f"{way}.{name}"] = tensor
    return found


def _fill(places: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Copy the values into the tensors of the same names, if there are."""
    with torch.no_grad():
        for name in places.keys() & values.keys():
            places[name].copy_(values[name])


def _check(values: dict[str, Tensor], places: dict[str, Tensor], source: str) -> None:
    """Raise if a value does not fit the tensor of the same name, if there is one."""
    for name, value in values.items():
        place = places.get(name, value)
        if (value.shape, value.dtype) != (place.shape, place.dtype):
            raise _errors_checkpoint.unlike(source, name, value, place)


# The state.


def state_dict(svi: Any) -> dict[str, Any]:
    """The state of an AnnealedSVI."""
    # Pyro itself saves none of the optimiser's states that wait for their parameter.
    waiting = svi.optim._state_waiting_to_be_consumed
    store, optim = pyro.get_param_store(), {**waiting, **svi.optim.get_state()}
    if optim.pop(None, None) and pyro.settings.get("module_local_params"):
        raise _errors_checkpoint.unnamed_parameters()
    params: Any = store.get_state()
    params["constraints"] = {k: _described(v) for k, v in params["constraints"].items()}
    held = _ways(svi)
    names = {way: store.param_name(tensor) for way, tensor in held.items()}
    rest = {way: held[way] for way, name in names.items() if name is None}
    return {
        "steps": svi.steps,
        "optim": optim,
        "params": params,
        "rng": rng_state(),
        "rest": {**(svi._loaded or {}).get("rest", {}), **rest},
        "modules": {way: name for way, name in names.items() if name is not None},
    }


def read(path: str | os.PathLike[str], map_location: Any) -> Any:
    """What torch.save wrote to a file, without executing anything in it."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # torch.load itself looks at no checksum
                wrong = torch.serialization.get_crc32_options() and archive.testzip()
            if wrong:
                raise zipfile.BadZipFile(f"wrong checksum of {wrong}")
            file.seek(0)
            return torch.load(file, map_location, weights_only=True)
        except Exception as error:  # by the kind of damage, one of many
            raise _errors_checkpoint.unreadable(path, error) from error


def check_constraints(state: dict[str, Any]) -> None:
    """Raise if a constraint could not be described."""
    for name, constraint in state["params"]["constraints"].items():
        if isinstance(constraint, constraints.Constraint):
            raise _errors_checkpoint.unsaved_constraint(name, constraint)


def _checked_params(params: Any, source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Parameters and constraints, in Pyro's own layout."""
    fine = isinstance(params, dict) and params.keys() == {"params", "constraints"}
    if not fine or params["params"].keys() != params["constraints"].keys():
        expected = "params and constraints of the same names"
        raise _errors_checkpoint.malformed(source, "malformed params", expected)
    for name, value in params["params"].items():
        if not isinstance(value, Tensor):
            got = f"a {type(value).__name__} as the parameter {name!r}"
            raise _errors_checkpoint.malformed(source, got, "a tensor")
    described = params["constraints"].items()
    return params["params"], {name: _constraint(c, source, name) for name, c in described}


def _check_optim(optim: Any, states: Any, source: str) -> None:
    """Raise if the optimiser is of another kind than the one that was saved."""
    if callable(optim.pt_optim_args) or not states:
        return  # what it is made of depends on the parameter
    made = optim._get_optim(torch.zeros(1, requires_grad=True))
    scheduled = hasattr(made, "optimizer")
    known = (made.optimizer if scheduled else made).param_groups[0].keys()
    for name, state in states.items():
        saved = (state["optimizer"] if "scheduler" in state else state)["param_groups"][0].keys()
        # Other versions of torch have further settings, and some optimisers add their own.
        if ("scheduler" in state) != scheduled or (saved - known and known - saved):
            got = f"the optimiser's settings {sorted(saved)} of the parameter {name!r}"
            raise _errors_checkpoint.malformed(source, got, f"those of {type(made).__name__}")


def restore(svi: Any, state: Any, source: str) -> bool:
    """Set what the state holds, after all of it has been looked at.

    Returns:
        Whether parameters wait for model and guide to register them.
    """
    kinds = {"steps": int, "optim": dict, "params": dict, "rng": dict}
    kinds |= {"modules": dict, "rest": dict}
    if not isinstance(state, dict) or state.keys() - kinds.keys():
        got = f"the keys {sorted(map(str, state))}" if isinstance(state, dict) else "no dictionary"
        raise _errors_checkpoint.malformed(source, got, f"a dictionary with {list(kinds)}")
    for key, value in state.items():
        if not isinstance(value, kinds[key]):
            raise _errors_checkpoint.malformed(
                source, f"a {type(value).__name__} as {key}", f"a {kinds[key].__name__}"
            )
    store = pyro.get_param_store()
    params, limits = _checked_params(state["params"], source) if "params" in state else ({}, {})
    held, names, rest = _ways(svi), state.get("modules", {}), state.get("rest", {})
    places = dict(store.named_parameters())
    places |= {name: held[way] for way, name in names.items() if way in held and name in params}
    _check(params, places, source)
    _check(rest, held, source)
    trained = {name for p in svi.optim.optim_objs if (name := store.param_name(p)) is not None}
    if "params" in state and trained - params.keys():
        raise _errors_checkpoint.trained_already(source, trained - params.keys())
    try:
        _check_optim(svi.optim, state.get("optim"), source)
        if "rng" in state:
            set_rng_state(state["rng"], scratch=True)
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise _errors_checkpoint.malformed(
            source, f"a malformed optim or rng ({error})", "what state_dict has there"
        ) from error

    _fill(places, params)
    new = params.keys() - places.keys()
    made = {name: params[name].detach().clone().requires_grad_() for name in new}
    for name, tensor in store.named_parameters():
        if name in params and places[name] is not tensor:
            store._param_to_name.pop(tensor, None)
    store.set_state({"params": {n: {**places, **made}[n] for n in params}, "constraints": limits})
    for name in [n for n, tensor in _waiting.items() if store._params.get(n) is not tensor]:
        del _waiting[name]  # the store was cleared meanwhile
    _waiting.update(made)
    if _waiting:
        vars(store)["setdefault"] = _setdefault
    _fill(held, rest)
    svi.steps = state.get("steps", svi.steps)
    if "optim" in state:
        # Pyro hands a state to the optimisers that it makes from now on.
        svi.optim.optim_objs.clear()
        svi.optim.set_state(copy.deepcopy(state["optim"]))
    if "rng" in state:
        set_rng_state(state["rng"])
    return bool(made)


def _setdefault(name: str, init: Any, constraint: Any = constraints.real) -> Tensor:
    """The param store's method of this name, while loaded parameters wait.

    A parameter is registered as if it was not there, so that the store shares the tensor of a
    module, and then takes the loaded numbers. A function that makes the first value is not called:
    it may draw random numbers.
    """
    store, loaded = pyro.get_param_store(), _waiting.get(name)
    if loaded is not None and store._params.get(name) is loaded:
        if isinstance(init, Tensor):
            value = store[name]
            if (value.shape, value.dtype) != (init.shape, init.dtype):
                raise _errors_checkpoint.first_seen_otherwise(name, value, init)
            store[name] = init
            store._param_to_name.pop(loaded, None)
            _fill(store._params, {name: loaded})
        del _waiting[name]
    if not _waiting:
        vars(store).pop("setdefault", None)
    return ParamStoreDict.setdefault(store, name, init, constraint)


def rehearse(svi: Any, loaded: dict[str, Any], *args: Any, **kwargs: Any) -> None:
    """Run the loss once after a load, so that model and guide register what was loaded.

    A guide may use a module that the model registers after it; automatic guides make their
    parameters, and compiling losses run the model, in their first call. What this run changes is
    set back: random generators, buffers, and averages that a loss keeps in the param store.
    """
    store, rng = pyro.get_param_store(), rng_state()
    before = {name: tensor.detach().clone() for name, tensor in store.named_parameters()}
    held = {way: tensor.detach().clone() for way, tensor in _ways(svi).items()}
    try:
        with torch.enable_grad(), trace(param_only=True) as used:
            svi.loss_and_grads(svi.model, svi.guide, *args, **kwargs)
        sites: Any = used.trace.nodes
        zero_grads(site["value"].unconstrained() for site in sites.values())
    finally:
        set_rng_state(rng)
        _fill(store._params, before)
        _fill(_ways(svi), held)
    seen = sites.keys()
    unused = {n for n, tensor in _waiting.items() if store._params.get(n) is tensor} - seen
    unused &= loaded["params"]
    new = seen - loaded["params"]
    if unused and new:
        raise _errors_checkpoint.renamed(unused, new)
    held = _ways(svi)
    unused |= loaded["rest"].keys() - held.keys()
    if unused:
        warnings.warn(_errors_checkpoint.unused(unused), stacklevel=4)
    _check(loaded["rest"], held, "a state")
    _fill(held, loaded["rest"])
