"""What both AnnealedSVI classes share: the temperature reaches those that take it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from relaxed_dists import _errors


def _takes_temperature(fn: Any, unwrap: Callable[[Any], Any]) -> bool:
    inner = unwrap(fn)
    while inner is not None:
        fn, inner = inner, unwrap(inner)
    if isinstance(fn, functools.partial) and "temperature" in fn.keywords:
        return False  # it is bound already
    parameters = inspect.signature(fn).parameters.values()
    return any(p.name == "temperature" or p.kind is p.VAR_KEYWORD for p in parameters)


def _without_temperature(fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, temperature: Any = None, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


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
    takes = [_takes_temperature(fn, unwrap) for fn in (model, guide)]
    if not any(takes):
        raise _errors.no_temperature()
    pairs = zip((model, guide), takes, strict=True)
    return [fn if take else _without_temperature(fn) for fn, take in pairs]
