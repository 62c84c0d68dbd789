"""Shape inference, registration with optional packages, and whether a model is inspected."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from relaxed_dists import _errors
from relaxed_dists._distributions import permutation


def infer_shapes(
    cls: Any, event_dim: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The batch and event shapes of a distribution whose arguments have the given shapes.

    Args:
        cls: The class of the distribution.
        event_dim: The number of dimensions of an event.
        args: Shapes of arguments of the class, in the order of its signature.
        kwargs: Shapes of arguments by name. Static arguments, such as k, are ignored.
    """
    name = cls.__name__
    shapes = dict(zip(list(inspect.signature(cls.__init__).parameters)[1:], args, strict=False))
    shapes.update(kwargs)
    probs, logits = shapes.get("probs"), shapes.get("logits")
    _errors.one_of(name, probs, logits)
    what, shape = ("logits", logits) if probs is None else ("probs", probs)
    shape = tuple(shape)  # type: ignore[arg-type]
    if event_dim == 2:
        permutation.square(name, shape)
    elif event_dim and 0 in (len(shape), *shape[-1:]):
        raise _errors.no_categories(name, what, shape)
    split = len(shape) - event_dim
    temperature = tuple(shapes.get("temperature") or ())
    try:
        return np.broadcast_shapes(temperature, shape[:split]), shape[split:]
    except ValueError as error:
        raise _errors.bad_temperature_shape(name, temperature, shape[:split]) from error


_told: set[tuple[Any, ...]] = set()


def tell(module: str, register: Callable[..., None], *classes: Any) -> None:
    """Call ``register(module, *classes)`` once, if the user has loaded the module of that name.

    This library never imports the module, because such a module is optional, is slow to import, or
    changes settings.
    """
    key = module, register, *classes
    if key not in _told and module in sys.modules:
        _told.add(key)
        register(sys.modules[module], *classes)


def _register_funsor(terms: Any, cls: Any) -> None:
    def convert(distribution: Any, output: Any = None, dim_to_name: Any = None) -> Any:
        return terms.to_funsor(distribution._for_funsor(), output, dim_to_name)

    terms.to_funsor.register(cls)(convert)


def tell_funsor(cls: Any) -> None:
    """Register a class with funsor, which then converts the object that `_for_funsor` returns."""
    tell("funsor.terms", _register_funsor, cls)


def inspecting(framework: str) -> bool:
    """Whether the call comes from the framework's inspection of a model, as by render_model.

    An inspection needs to know which arrays a density depends on, not the density itself.
    """
    return called_from(f"{framework}.infer.inspect")


def called_from(module: str) -> bool:
    """Whether a function of a module is on the Python stack.

    The frameworks do not tell a distribution or a handler which algorithm runs the model, so this
    function walks up the stack. Walking is slow, so call it only where something may be wrong.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == module:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
