"""What both AnnealedSVI classes share: the temperatures of a step, and who takes them."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from relaxed_dists._infer import discretize


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
        raise no_temperature()
    pairs = zip((model, guide), takes, strict=True)
    return [fn if take else without_temperature(fn) for fn, take in pairs]


def check_given(fns: Iterable[Any], args: Any, kwargs: dict[str, Any]) -> None:
    """Raise if a call lacks the temperature that a signature asks for.

    Raises:
        ValueError: If it does.
    """
    for fn in fns:
        try:
            inspect.signature(fn).bind(*args, **kwargs)
        except TypeError as error:
            if "'temperature'" in str(error):
                raise missing_temperature() from None
        except ValueError:  # a callable without a signature
            continue


def needs_temperature(
    fn: Any, unwrap: Callable[[Any], Any], parts: Callable[[Any], Iterable[Any]]
) -> bool:
    """Whether a call without a temperature is an error: the signature asks for one.

    Args:
        fn: A model or a guide.
        unwrap: From a wrapper whose signature hides it to what is wrapped; else None.
        parts: From a guide to the guides that it is made of.
    """
    while fn is not None:
        inner, fn_parts = unwrap(fn), list(parts(fn))
        if getattr(fn, "_needs_temperature", False):
            return True
        if any(needs_temperature(part, unwrap, parts) for part in fn_parts):
            return True
        if inner is None:
            break
        fn = inner
    try:
        parameter = inspect.signature(fn).parameters.get("temperature")
    except (TypeError, ValueError):  # a callable without a signature
        return False
    return parameter is not None and parameter.default is parameter.empty


class AtAnyTemperature:
    """A model or guide whose sites are made discrete, which can be called without a temperature.

    A discrete distribution does not depend on the temperature of the relaxed one, so any
    temperature will do. The first call without one looks whether anything else depends on it.

    Args:
        fn: The model or the guide.
        independent: From the function, its arguments and two temperatures to whether it draws and
            scores the same at both.
    """

    def __init__(self, fn: Callable[..., Any], independent: Callable[..., bool]) -> None:
        self.fn, self._independent = fn, independent
        self._temperature: Any = None

    def look(self, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> None:
        """Find a temperature that fn can be called with; an error if it matters which."""
        if self._temperature is not None or self._given(args, kwargs):
            return
        # 1 and 2 are in the range of every estimator.
        found: Any = [1.0, 2.0]
        try:
            fine = self._independent(fn, args, kwargs, *found)
        except TypeError as error:
            if "not subscriptable" not in str(error):  # it takes a nest of temperatures
                raise
            found = [_Nest(t) for t in found]
            fine = self._independent(fn, args, kwargs, *found)
        if not fine:
            raise discretize.temperature_matters()
        self._temperature = found[0]

    def _given(self, args: Any, kwargs: dict[str, Any]) -> bool:
        if "temperature" in kwargs:
            return True
        try:
            return "temperature" in inspect.signature(self.fn).bind_partial(*args).arguments
        except (TypeError, ValueError):
            return False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, with a temperature."""
        self.look(self.fn, args, kwargs)
        if not self._given(args, kwargs):
            kwargs = {**kwargs, "temperature": self._temperature}
        return self.fn(*args, **kwargs)


class _Nest(dict[Any, float]):
    """One temperature under every key."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def __missing__(self, key: Any) -> float:
        return self._temperature


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
            raise not_a_schedule(name, entry)
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
                raise bad_scheduled(name, entry)
    return temperature


def shown(temperature: Any) -> str:
    """The temperatures for a progress bar; the lowest and the highest of an array."""

    def text(x: Any) -> str:
        ends = (np.min(x), np.max(x))
        return " to ".join(f"{end:.4g}" for end in ends[: 1 + (ends[0] < ends[1])])

    return ", ".join(f"{name}: {text(entry)}" for name, entry in entries(temperature))


# The messages.


def no_temperature() -> ValueError:
    """A model and a guide that take no temperature."""
    return ValueError(
        "AnnealedSVI got a model and a guide that both take no argument named temperature; "
        "expected at least one that does. Add temperature to its signature, or leave the "
        "schedule and temperature= out."
    )


def missing_temperature() -> ValueError:
    """A model or a guide that asks for a temperature, and gets none."""
    return ValueError(
        "AnnealedSVI got no temperature for a model or guide that asks for one; expected a "
        "schedule, or temperature= in each call. Give AnnealedSVI a schedule such as "
        "relaxed_dists.schedules.exponential(1.0, 1e-4, 0.5)."
    )


def not_a_schedule(entry: str, got: Any) -> ValueError:
    """A temperature that is neither a schedule nor a number."""
    return ValueError(
        f"AnnealedSVI got {entry} of type {type(got).__name__}; expected a schedule (a function "
        "from a step to a temperature), a number, or a dict, list or tuple of them. "
        "Take one from relaxed_dists.schedules."
    )


def bad_scheduled(entry: str, temperature: Any) -> ValueError:
    """A schedule's temperature that is not positive and finite."""
    which = "" if entry == "temperature" else f" {entry}"
    return ValueError(
        f"The temperature schedule{which} yielded {temperature}; expected positive finite numbers. "
        "Give the schedule a floor above zero."
    )


def not_traceable(error: BaseException) -> ValueError:
    """A schedule of the user's that needs numbers where JAX has none."""
    return ValueError(
        f"A temperature schedule can't compute with a traced step ({type(error).__name__}); "
        "expected a function that JAX can trace. Write jnp.maximum, jnp.exp and jnp.where in "
        "place of max, math.exp and if; or take a schedule from relaxed_dists.schedules, such as "
        "exponential(1.0, rate=1e-3, floor=0.5)."
    )
