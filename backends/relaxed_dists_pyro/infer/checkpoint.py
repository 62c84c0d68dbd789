"""Saves the state of a training with AnnealedSVI, and restores it.

Pyro's param store shares tensors with the modules of model and guide. If the store replaced its
tensors, as the store's set_state does, the modules would keep the old ones. So loaded numbers are
copied into the existing tensors. A parameter that does not exist yet waits in the store until model
or guide registers it; then the loaded numbers are copied into the registered tensor.
"""

import copy
import os
import pickle
import sys
import warnings
import zipfile
from typing import Any, BinaryIO

import numpy as np
import pyro
import torch
from pyro.infer.util import zero_grads
from pyro.params.param_store import ParamStoreDict
from pyro.poutine import trace
from torch import Tensor
from torch.distributions import constraints, transform_to

from relaxed_dists._infer import checkpoint

from .generators import rng_state, set_rng_state
from .holding import held_tensors
from .ranks import rank

# Tensors of the param store with loaded numbers that neither model nor guide has registered yet.
_waiting: dict[str, Tensor] = {}


# Constraints are saved as descriptions, which torch.load(weights_only=True) can read.


def _class(path: str) -> Any:
    """The constraint class at a path like "torch.distributions.constraints:_Real", or None."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    valid = isinstance(found, type) and issubclass(found, constraints.Constraint)
    return found if valid else None


def _described(value: Any) -> Any:
    """The value, with NumPy's numbers turned into Python's, and constraints into descriptions.

    A description has the path of the constraint's class, and the constraint's fields. A constraint
    is not replaced if its class can't be imported by a path, or a field is not plain data.
    """
    if isinstance(value, constraints.Constraint):
        path = f"{type(value).__module__}:{type(value).__qualname__}"
        fields = {name: _described(field) for name, field in vars(value).items()}
        known = (bool, int, float, str, Tensor, list, dict, type(None))
        valid = _class(path) is type(value) and all(isinstance(f, known) for f in fields.values())
        return {"class": path, "fields": fields} if valid else value
    if isinstance(value, dict):
        return {key: _described(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_described, value))
    return value.item() if isinstance(value, np.generic) else value


def _constraint(value: Any, source: str, name: str) -> Any:
    """The constraint that a description describes; any other value is returned unchanged."""
    if isinstance(value, list):
        return [_constraint(entry, source, name) for entry in value]
    if not isinstance(value, dict) or value.keys() != {"class", "fields"}:
        return value
    made = _class(value["class"])
    if made is None:
        raise checkpoint.unknown_constraint(source, name, value["class"])
    made = object.__new__(made)
    vars(made).update({k: _constraint(v, source, name) for k, v in value["fields"].items()})
    return made


def _fill(places: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Copy the values into the tensors of the same names, if there are such tensors."""
    with torch.no_grad():
        for name in places.keys() & values.keys():
            places[name].copy_(values[name])


def _check(values: dict[str, Tensor], places: dict[str, Tensor], source: str) -> None:
    """Refuse values that do not fit the tensor of the same name, if there is such a tensor."""
    for name, value in values.items():
        checkpoint.check_like(source, name, value, places.get(name, value))


# The functions below save and restore the state.


def state_dict(svi: Any) -> dict[str, Any]:
    """The state of an AnnealedSVI."""
    # Pyro itself does not save loaded optimiser states whose parameters it has not seen yet.
    waiting = svi.optim._state_waiting_to_be_consumed
    store, optim = pyro.get_param_store(), {**waiting, **svi.optim.get_state()}
    if optim.pop(None, None) and pyro.settings.get("module_local_params"):
        raise checkpoint.unnamed_parameters()
    params: Any = store.get_state()
    params["constraints"] = _described(params["constraints"])
    held = held_tensors(svi)
    names = {route: store.param_name(tensor) for route, tensor in held.items()}
    rest = {route: held[route] for route, name in names.items() if name is None}
    return {
        "steps": svi.steps,
        "optim": _described(optim),
        "params": params,
        "rng": {**rng_state(), "rank": rank()},
        "rest": {**(svi._loaded or {}).get("rest", {}), **rest},
        "modules": {route: name for route, name in names.items() if name is not None},
    }


def read(path: str | os.PathLike[str], map_location: Any) -> Any:
    """Read a file of torch.save without executing anything in it."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # torch.load itself verifies no checksums
                wrong = torch.serialization.get_crc32_options() and archive.testzip()
            if wrong:
                raise zipfile.BadZipFile(f"wrong checksum of {wrong}")
            file.seek(0)
            return torch.load(file, map_location, weights_only=True)
        except Exception as error:  # the error's class depends on the damage
            raise checkpoint.unreadable(path, error) from error


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a state to a file that can be read without executing anything."""
    for name, constraint in state["params"]["constraints"].items():
        if isinstance(constraint, constraints.Constraint):
            raise checkpoint.unsaved_constraint(name, constraint)
    for name, tensor in {**state["params"]["params"], **state["rest"]}.items():
        if hasattr(tensor, "full_tensor"):  # a DTensor, whose class takes long to import
            advice = "Let all ranks write state_dict() by torch.distributed.checkpoint.save"
            raise checkpoint.sharded(name, "rank", advice)

    def write(file: BinaryIO) -> None:
        try:
            torch.save(state, file)
            file.flush()
            torch.load(file.name, "cpu", weights_only=True, mmap=True)  # a check; reads no tensors
        except (AttributeError, TypeError, pickle.PickleError) as error:
            raise checkpoint.unsaved(error) from error

    checkpoint.write(path, write)


def _checked_params(params: Any, source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The parameters and the constraints of a state, after a check of their layout."""
    valid = isinstance(params, dict) and params.keys() == {"params", "constraints"}
    if not valid or params["params"].keys() != params["constraints"].keys():
        expected = "params and constraints of the same names"
        raise checkpoint.malformed(source, "malformed params", expected)
    for name, value in params["params"].items():
        if not isinstance(value, Tensor):
            got = f"a {type(value).__name__} as the parameter {name!r}"
            raise checkpoint.malformed(source, got, "a tensor")
    described = params["constraints"].items()
    return params["params"], {name: _constraint(c, source, name) for name, c in described}


def _check_optim(optim: Any, states: Any, params: dict[str, Tensor], source: str) -> None:
    """Refuse optimiser states of another kind of optimiser than ``optim``."""
    if callable(optim.pt_optim_args):
        return  # each parameter may have other settings
    name = next(iter(states.keys() & params.keys()), None)
    if name is None:
        return
    made = optim._get_optim(torch.zeros_like(params[name], requires_grad=True))
    scheduled = hasattr(made, "optimizer")
    known = (made.optimizer if scheduled else made).param_groups[0].keys()
    for name, state in states.items():
        saved = (state["optimizer"] if "scheduler" in state else state)["param_groups"][0].keys()
        # Versions of torch differ in some settings, and some optimisers add their own. So either
        # side may have settings that the other lacks, but not both sides.
        if ("scheduler" in state) != scheduled or (saved - known and known - saved):
            got = f"the optimiser's settings {sorted(saved)} of the parameter {name!r}"
            raise checkpoint.malformed(source, got, f"those of {type(made).__name__}")


def restore(svi: Any, state: Any, source: str) -> dict[str, Any] | None:
    """Check the whole state, and then set everything that is in it.

    Returns:
        The argument ``loaded`` for `rehearse`, or None if rehearse need not be called.
    """
    kinds = {"steps": int, "optim": dict, "params": dict, "rng": dict}
    kinds |= {"modules": dict, "rest": dict}
    if not isinstance(state, dict) or state.keys() - kinds.keys():
        got = f"the keys {sorted(map(str, state))}" if isinstance(state, dict) else "no dictionary"
        raise checkpoint.malformed(source, got, f"a dictionary with {list(kinds)}")
    for key, value in state.items():
        if not isinstance(value, kinds[key]):
            raise checkpoint.malformed(
                source, f"{key} of type {type(value).__name__}", f"type {kinds[key].__name__}"
            )
    store = pyro.get_param_store()
    params, limits = _checked_params(state["params"], source) if "params" in state else ({}, {})
    held, names, rest = held_tensors(svi), state.get("modules", {}), state.get("rest", {})
    places = dict(store.named_parameters())
    places |= {
        name: held[route] for route, name in names.items() if route in held and name in params
    }
    _check(params, places, source)
    _check(rest, held, source)
    trained = {name for p in svi.optim.optim_objs if (name := store.param_name(p)) is not None}
    if "params" in state and trained - params.keys():
        raise checkpoint.trained_already(source, trained - params.keys())
    # States of one process need no rank.
    if "rng" in state and (saved := state["rng"].get("rank", 0)) != rank():
        raise checkpoint.other_rank(source, saved, rank())
    try:
        _check_optim(svi.optim, state.get("optim", {}), params, source)
        if "rng" in state:
            set_rng_state(state["rng"], scratch=True)
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise checkpoint.malformed(
            source, f"a malformed optim or rng ({error})", "what state_dict has there"
        ) from error

    _fill(places, params)
    new = params.keys() - places.keys()
    places |= {name: params[name].detach().clone().requires_grad_() for name in new}
    for name, tensor in store.named_parameters():
        if places[name] is not tensor:
            store._param_to_name.pop(tensor, None)
    loaded = {name: places[name] for name in params}
    store.set_state({"params": loaded, "constraints": limits})
    _waiting.update(loaded)
    vars(store)["setdefault"] = _setdefault
    _fill(held, rest)
    svi.steps = state.get("steps", svi.steps)
    if "optim" in state:
        # Pyro makes an optimiser for each parameter later, and then loads this state into it.
        svi.optim.optim_objs.clear()
        svi.optim._state_waiting_to_be_consumed.clear()
        svi.optim.set_state(copy.deepcopy(state["optim"]))
    if "rng" in state:
        set_rng_state(state["rng"])
    if not new and not (svi._first and svi.steps):
        return None
    trained = params.keys() & state.get("optim", params).keys()
    rest = {route: tensor.detach().clone() for route, tensor in rest.items()}
    return {"params": set(params), "trained": trained, "rest": rest}


def _setdefault(
    name: str, init_constrained_value: Any, constraint: Any = constraints.real
) -> Tensor:
    """The param store's setdefault while loaded parameters wait to be registered.

    If the initial value is a tensor, a waiting parameter is registered like a new one, so that the
    store shares the tensor with a module; then the loaded numbers are copied into this tensor. If a
    function makes the initial value, it is not called, since it may draw random numbers.
    """
    store, loaded, init = pyro.get_param_store(), _waiting.get(name), init_constrained_value
    # A parameter no longer waits after clear_param_store, or once a PyroModule has replaced its
    # tensor.
    if loaded is not None and store._params.get(name) is loaded and isinstance(init, Tensor):
        with torch.no_grad():
            start = transform_to(store._constraints[name]).inv(init)
        if (start.shape, start.dtype) != (loaded.shape, loaded.dtype):
            raise checkpoint.first_seen_otherwise(name, loaded, start)
        if init is not loaded:
            store[name] = init
            store._param_to_name.pop(loaded, None)
            _fill(store._params, {name: loaded})
    _waiting.pop(name, None)
    if not _waiting:
        vars(store).pop("setdefault", None)
    return ParamStoreDict.setdefault(store, name, init, constraint)


def rehearse(svi: Any, loaded: dict[str, Any], *args: Any, **kwargs: Any) -> None:
    """Run the loss once after a load, so that model and guide register the loaded parameters.

    An extra run is needed since a guide may use a module that the model registers later. Also,
    autoguides make their parameters, and compiling losses run the model, only in their first call.
    Everything that this run changes is restored: random generators, buffers, gradients that were
    accumulated, and averages that a loss keeps in the param store.
    """
    store, rng = pyro.get_param_store(), rng_state()
    if loaded["params"] and not loaded["params"] & store.keys():
        raise checkpoint.cleared()
    before = {name: tensor.detach().clone() for name, tensor in store.named_parameters()}
    gradients = {tensor: tensor.grad for _, tensor in store.named_parameters()}
    for tensor in gradients:
        tensor.grad = None
    held = {route: tensor.detach().clone() for route, tensor in held_tensors(svi).items()}
    try:
        with torch.enable_grad(), trace(param_only=True) as used:
            svi.loss_and_grads(svi.model, svi.guide, *args, **kwargs)
        sites: Any = used.trace.nodes
        zero_grads(site["value"].unconstrained() for site in sites.values())
    finally:
        for tensor, gradient in gradients.items():
            tensor.grad = gradient
        set_rng_state(rng)
        # The next call makes the new parameters again, from the same random numbers.
        for name in store.keys() - before.keys():
            store._param_to_name.pop(store._params.pop(name), None)
            del store._constraints[name]
        _fill(held_tensors(svi), held)
        _fill(store._params, before)  # last, since held may have modules' initial values
    seen = sites.keys()
    unused = {n for n, tensor in _waiting.items() if store._params.get(n) is tensor} - seen
    unused &= loaded["trained"]
    new = seen - loaded["params"]
    # A new name with "$$$" or "." is that of a module's parameter, so a module was renamed.
    # Otherwise only warn, since another batch may use the unused parameters.
    if unused and any("$$$" in name or "." in name for name in new):
        raise checkpoint.renamed(unused, new)
    if unused:
        warnings.warn(checkpoint.unused(unused), stacklevel=4)
    for name in seen:
        _waiting.pop(name, None)
    held = held_tensors(svi)
    missing = loaded["rest"].keys() - held.keys()
    if missing:
        warnings.warn(checkpoint.not_found(missing), stacklevel=4)
    _check(loaded["rest"], held, "a state")
    _fill(held, loaded["rest"])
