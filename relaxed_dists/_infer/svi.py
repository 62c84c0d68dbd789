"""The parts that both AnnealedSVI classes share: temperatures, and models that accept them."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

# A schedule or a number, or several of them for model and guide.
Temperature = Callable[[Any], Any] | float | dict[str, Any] | list[Any] | tuple[Any, ...]


def takes_temperature(fn: Any, unwrap: Callable[[Any], Any]) -> bool:
    """Whether the function, inside its wrappers, accepts a temperature that is not bound yet."""
    inner = unwrap(fn)
    while inner is not None:
        fn, inner = inner, unwrap(inner)
    if isinstance(fn, functools.partial) and "temperature" in fn.keywords:
        return False
    parameters = inspect.signature(fn).parameters.values()
    return any(p.name == "temperature" or p.kind is p.VAR_KEYWORD for p in parameters)


def _call(fn: Callable[..., Any], /, *args: Any, temperature: Any = None, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def tolerant(fn: Callable[..., Any], unwrap: Callable[[Any], Any]) -> Callable[..., Any]:
    """The function, wrapped to ignore temperature= unless the function itself accepts it.

    The wrapped function can be pickled if the function can.
    """
    return fn if takes_temperature(fn, unwrap) else functools.partial(_call, fn)


def accepting(
    model: Callable[..., Any], guide: Callable[..., Any], unwrap: Callable[[Any], Any]
) -> list[Callable[..., Any]]:
    """Model and guide as callables that accept temperature=, used or not.

    Args:
        model: The model.
        guide: The guide.
        unwrap: Returns the function inside a wrapper that hides its signature, or else None.

    Raises:
        ValueError: If neither the model nor the guide accepts a temperature.
    """
    if not (takes_temperature(model, unwrap) or takes_temperature(guide, unwrap)):
        raise no_temperature()
    return [tolerant(fn, unwrap) for fn in (model, guide)]


def title(x: Any) -> str:
    """A function's name, or the repr of an object if it is short, or else the object's class."""
    if isinstance(x, functools.partial):
        return title(x.args[0] if x.func is _call else x.func)
    x = getattr(x, "__self__", x)  # in Pyro the loss is a method of the ELBO
    text: str = getattr(x, "__name__", repr(x))
    return type(x).__name__ if text.startswith("<") or "\n" in text else text


class Annealed:
    """The temperatures of both AnnealedSVI classes."""

    model: Any
    guide: Any
    loss: Any

    def __repr__(self) -> str:
        inside = [title(x) for x in (self.model, self.guide, self.loss)]
        if self.temperature is not None:
            inside.append(f"temperature={self.temperature!r}")
        return f"{type(self).__name__}({', '.join(inside)})"

    def _accept(self, model: Any, guide: Any, temperature: Any, unwrap: Any) -> list[Any]:
        """Store the schedule; return model and guide, wrapped to accept temperature= if needed."""
        self._takes = takes_temperature(model, unwrap) or takes_temperature(guide, unwrap)
        accept = self._takes or temperature is not None
        fns = accepting(model, guide, unwrap) if accept else [model, guide]
        self.temperature = None if temperature is None else schedules(temperature)
        return fns

    def _temperatures(self, step: Any) -> Any:
        """The temperatures of a step, checked."""
        return checked(at_step(self.temperature, step))

    def _with_temperature(self, step: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments of model and guide, with the step's temperatures."""
        if "temperature" in kwargs and not self._takes:
            raise no_temperature()
        if self.temperature is None or "temperature" in kwargs:
            return kwargs
        return {**kwargs, "temperature": self._temperatures(step)}


def check_given(fns: Iterable[Any], args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse a call without a temperature that a signature requires.

    Raises:
        ValueError: If a function requires temperature, and neither args nor kwargs contain it.
    """
    for fn in fns:
        try:
            inspect.signature(fn).bind(*args, **kwargs)
        except TypeError as error:
            if "'temperature'" in str(error):
                raise ValueError(
                    "AnnealedSVI got no temperature for a model or guide that asks for one; "
                    "expected a schedule, or temperature= in each call. Give AnnealedSVI a "
                    "schedule such as relaxed_dists.schedules.exponential(1.0, 1e-4, 0.5)."
                ) from None
        except ValueError:  # a callable without a signature
            continue


def entries(nest: Any, name: str = "temperature") -> Iterator[tuple[str, Any]]:
    """The entries of a nest of dicts, lists and tuples, with names such as temperature['z']."""
    if isinstance(nest, dict):
        items = list(nest.items())
    elif isinstance(nest, list | tuple):
        items = list(enumerate(nest))
    else:
        yield name, nest
        return
    for key, entry in items:
        yield from entries(entry, f"{name}[{key!r}]")


def mapped(f: Callable[[Any], Any], nest: Any) -> Any:
    """The nest with f applied to each entry."""
    if isinstance(nest, dict):
        return {key: mapped(f, entry) for key, entry in nest.items()}
    if isinstance(nest, list | tuple):
        made = [mapped(f, entry) for entry in nest]
        return type(nest)(*made) if hasattr(nest, "_fields") else type(nest)(made)
    return f(nest)


def schedules(temperature: Any) -> Any:
    """Return a nest of schedules and numbers, or raise an error that names a wrong entry.

    Raises:
        ValueError: If an entry is neither a schedule nor a number.
    """
    for name, entry in entries(temperature):
        if not (callable(entry) or isinstance(entry, int | float) or hasattr(entry, "dtype")):
            raise ValueError(
                f"AnnealedSVI got {name} of type {type(entry).__name__}; expected a schedule (a "
                "function from a step to a temperature), a number, or a dict, list or tuple of "
                "them. Take one from relaxed_dists.schedules."
            )
    return temperature


def at_step(schedules: Any, step: Any) -> Any:
    """The temperatures of a step, in the nest of their schedules; a number is constant."""
    return mapped(lambda entry: entry(step) if callable(entry) else entry, schedules)


def checked(temperature: Any, known: Callable[[Any], bool] = lambda x: True) -> Any:
    """Return the temperatures of a step, or raise an error that names an invalid entry.

    Args:
        temperature: A number or an array, or a nest of them.
        known: Whether the numbers of an entry can be read, which they can't under tracing.

    Raises:
        ValueError: If a temperature is not positive, or is NaN or infinite.
    """
    for name, entry in entries(temperature):
        if known(entry):
            valid = (entry > 0) & (entry < math.inf)
            if not bool(valid.all() if hasattr(valid, "all") else valid):
                which = "" if name == "temperature" else f" {name}"
                raise ValueError(
                    f"The temperature schedule{which} yielded {entry}; expected positive finite "
                    "numbers. Give the schedule a floor above zero."
                )
    return temperature


def temperature_text(temperature: Any) -> str:
    """The temperatures as a text for a progress bar; for an array, its lowest and highest one."""

    def text(x: Any) -> str:
        ends = (np.min(x), np.max(x))
        return " to ".join(f"{end:.4g}" for end in ends[: 1 + (ends[0] < ends[1])])

    return ", ".join(f"{name}: {text(entry)}" for name, entry in entries(temperature))


# The functions below make the errors of this module.


def no_temperature() -> ValueError:
    """The error about a model and a guide that take no temperature."""
    return ValueError(
        "AnnealedSVI got a model and a guide that both take no argument named temperature; "
        "expected at least one that does. Add temperature to its signature, or leave the "
        "schedule and temperature= out."
    )
