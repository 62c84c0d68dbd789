"""What the frameworks' machinery asks of a class or of its caller, the same in both backends."""

import inspect
import sys
from typing import Any

import numpy as np

from relaxed_dists import _errors, _permutation


def infer_shapes(
    cls: Any, event_dim: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The batch and event shapes of a distribution whose arguments have the given shapes.

    Args:
        cls: The class of the distribution.
        event_dim: The number of dimensions of an event.
        args: Shapes of arguments of the class, in the order of its signature.
        kwargs: Shapes of arguments by name. Those of static arguments, such as k, say nothing.
    """
    name = cls.__name__
    shapes = dict(zip(list(inspect.signature(cls.__init__).parameters)[1:], args, strict=False))
    shapes.update(kwargs)
    probs, logits = shapes.get("probs"), shapes.get("logits")
    _errors.one_of(name, probs, logits)
    what, shape = ("logits", logits) if probs is None else ("probs", probs)
    shape = tuple(shape)  # type: ignore[arg-type]
    if event_dim == 2:
        _permutation.square(name, shape)
    elif event_dim and 0 in (len(shape), *shape[-1:]):
        raise _errors.no_categories(name, what, shape)
    split = len(shape) - event_dim
    temperature = tuple(shapes.get("temperature") or ())
    try:
        return np.broadcast_shapes(temperature, shape[:split]), shape[split:]
    except ValueError as error:
        raise _errors.bad_temperature_shape(name, temperature, shape[:split]) from error


_told: set[Any] = set()


def tell_funsor(cls: Any) -> None:
    """Register a class with funsor by what its instances' `_theirs` gives, if funsor is loaded.

    Funsor is optional and slow to import, so that this does not import it.
    """
    if cls in _told or "funsor" not in sys.modules:
        return
    from funsor.terms import to_funsor

    _told.add(cls)

    def convert(distribution: Any, output: Any = None, dim_to_name: Any = None) -> Any:
        return to_funsor(distribution._theirs(), output, dim_to_name)

    to_funsor.register(cls)(convert)


def inspecting(framework: str) -> bool:
    """Whether the framework's inspection of a model calls, as for render_model.

    It looks only at which values a density is computed from, not at the density. Since neither
    framework tells, the callers are looked at: do so only instead of raising an error.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == f"{framework}.infer.inspect":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
