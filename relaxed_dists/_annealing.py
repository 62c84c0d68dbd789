"""What both AnnealedSVI classes share: the temperatures of a step, and who takes them."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from relaxed_dists import _errors


def takes_temperature(fn: Any, unwrap: Callable[[Any], Any]) -> bool:
    """Whether the signature of what is wrapped takes a temperature that is not bound yet."""
    inner = unwrap(fn)
    while inner is not None:
        fn, inner = inner, unwrap(inner)
    if isinstance(fn, functools.partial) and "temperature" in fn.keywords:
        return False  # it is bound already
    parameters = inspect.signature(fn).parameters.values()
    return any(p.name == "temperature" or p.kind is p.VAR_KEYWORD for p in parameters)


def _call(fn: Callable[..., Any], /, *args: Any, temperature: Any = None, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def without_temperature(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Fn as a callable that accepts temperature= and makes no use of it; pickled as fn is."""
    return functools.partial(_call, fn)


def accepting(
    model: Callable[..., Any], guide: Callable[..., Any], unwrap: Callable[[Any], Any]
) -> list[Callable[..., Any]]:
    """Model and guide as callables that accept temperature=, used or not.

    Args:
        model: The model.
        guide: The guide.
        unwrap: From a wrapper whose signature hides it to what is wrapped; else None.

    Raises:
        ValueError: If neither takes a temperature.
    """
    takes = [takes_temperature(fn, unwrap) for fn in (model, guide)]
    if not any(takes):
        raise _errors.no_temperature()
    pairs = zip((model, guide), takes, strict=True)
    return [fn if take else without_temperature(fn) for fn, take in pairs]


def entries(nest: Any, name: str = "temperature") -> Iterator[tuple[str, Any]]:
    """What a nest of dicts, lists and tuples holds, each with its name in the nest."""
    if isinstance(nest, dict):
        places = list(nest.items())
    elif isinstance(nest, list | tuple):
        places = list(enumerate(nest))
    else:
        yield name, nest
        return
    for place, entry in places:
        yield from entries(entry, f"{name}[{place!r}]")


def mapped(f: Callable[[Any], Any], nest: Any) -> Any:
    """The same nest, of f of each entry."""
    if isinstance(nest, dict):
        return {key: mapped(f, entry) for key, entry in nest.items()}
    if isinstance(nest, list | tuple):
        made = [mapped(f, entry) for entry in nest]
        return type(nest)(*made) if hasattr(nest, "_fields") else type(nest)(made)
    return f(nest)


def schedules(temperature: Any) -> Any:
    """Return a nest of schedules and numbers, or say which entry is neither.

    Raises:
        ValueError: If an entry is neither a schedule nor a number.
    """
    for name, entry in entries(temperature):
        if not (callable(entry) or isinstance(entry, int | float) or hasattr(entry, "dtype")):
            raise _errors.not_a_schedule(name, entry)
    return temperature


def at_step(schedules: Any, step: Any) -> Any:
    """The temperatures of a step, in the nest of their schedules; a number is constant."""
    return mapped(lambda entry: entry(step) if callable(entry) else entry, schedules)


def checked(temperature: Any, known: Callable[[Any], bool] = lambda x: True) -> Any:
    """Return the temperatures of a step, or say which of them is not positive and finite.

    Args:
        temperature: A number or an array, or a nest of them.
        known: Whether an entry can be looked at.

    Raises:
        ValueError: If one is not positive, or is NaN or infinite.
    """
    for name, entry in entries(temperature):
        if known(entry):
            fine = (entry > 0) & (entry < math.inf)
            if not bool(fine.all() if hasattr(fine, "all") else fine):
                raise _errors.bad_scheduled(name, entry)
    return temperature


def shown(temperature: Any) -> str:
    """The temperatures for a progress bar; the lowest and the highest of an array."""

    def text(x: Any) -> str:
        ends = (np.min(x), np.max(x))
        return " to ".join(f"{end:.4g}" for end in ends[: 1 + (ends[0] < ends[1])])

    return ", ".join(f"{name}: {text(entry)}" for name, entry in entries(temperature))
