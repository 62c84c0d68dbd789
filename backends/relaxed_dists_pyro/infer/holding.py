"""Finds the modules that model, guide and loss use, to save their tensors.

A module's route consists of the names that lead from the model, the guide or the loss to the
module. Another process that runs the same program finds the same route.
"""

import sys
import types
import warnings
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from relaxed_dists._infer import checkpoint

# Functions of these libraries have no modules of the user among their globals.
_LIBRARIES = {"torch", "pyro", "numpy", "relaxed_dists", "relaxed_dists_pyro"}
# The search visits at most this many objects, since a guide may refer to a data set with many
# objects, or to a library whose functions refer to thousands of objects.
_MAX_OBJECTS = 10_000


def _in_library(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _LIBRARIES or top in sys.stdlib_module_names


def _leads_nowhere(thing: Any) -> bool:
    """Whether the search skips an object, since it leads to no module or has too many entries."""
    if isinstance(thing, type):
        return _in_library(thing.__module__)
    if isinstance(thing, dict | list | tuple):
        return len(thing) > _MAX_OBJECTS
    plain = (int, float, str, bytes, Tensor, np.ndarray, types.ModuleType, type(None))
    return isinstance(thing, plain)


def _names(code: types.CodeType) -> set[str]:
    """The names of globals and attributes that some code and the functions inside it use."""
    inner = (_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*inner)


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """The objects to which ``thing`` refers, each with its name in ``thing``."""
    if isinstance(thing, types.FunctionType):
        for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # the variable is not assigned yet
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
        yield from ((str(name), value) for name, value in dict.items(thing))
    elif isinstance(thing, list | tuple):
        yield from ((str(i), value) for i, value in enumerate(thing))
    elif isinstance(thing, type):
        yield from (
            (name, getattr(value, "__func__", value)) for name, value in vars(thing).items()
        )
        yield "bases", thing.__bases__
    else:
        yield from getattr(thing, "__dict__", {}).items()
        yield "class", type(thing)


def _modules(**roots: Any) -> dict[str, nn.Module]:
    """The modules to which the roots lead, by their routes.

    Args:
        roots: The objects where the search starts, such as a model.
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    queue = deque(roots.items())
    while queue:
        if len(seen) == _MAX_OBJECTS:
            warnings.warn(checkpoint.looked_far(_MAX_OBJECTS), stacklevel=2)
            break
        route, thing = queue.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found[route] = thing
            # Submodules go to the front of the queue, as the search may end before the other parts.
            children = ((f"{route}.{name}", child) for name, child in thing.named_children())
            queue.extendleft(children)
        parts = ((name, part) for name, part in _parts(thing) if not _leads_nowhere(part))
        queue.extend((f"{route}.{name}", part) for name, part in parts)
    return found


def held_tensors(svi: Any) -> dict[str, Tensor]:
    """The parameters and saved buffers of an SVI's modules, by their routes."""
    found: dict[str, Tensor] = {}
    roots = {"model": svi.model, "guide": svi.guide, "loss": svi.loss}
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    for route, module in _modules(**roots).items():
        if fsdp and isinstance(module, fsdp.FSDPModule):
            module.reshard()  # a forward pass without a backward one leaves copies as parameters
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            saved = name not in module._non_persistent_buffers_set
            if saved and tensor is not None and not nn.parameter.is_lazy(tensor):
                found[f"{route}.{name}"] = tensor
    return found
