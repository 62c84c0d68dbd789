"""Temperature schedules: functions from a step to a temperature (long: nine docstrings).

A schedule takes a Python integer, a NumPy array, a torch tensor or a (traced) JAX array, and
returns a number or an array of the same library, with the step's shape. Any callable can be a
schedule; an optax schedule works for JAX steps. An argument out of its range, such as a
temperature that is not positive and finite, raises a ``ValueError``.
"""

import functools
import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from relaxed_dists import _errors

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "inverse_time",
    "join",
    "linear",
    "piecewise",
    "polynomial",
    "warmup",
]

Schedule = Callable[[Any], Any]
"""A function from a step to a temperature."""


_Make = TypeVar("_Make", bound=Callable[..., Schedule])


class _Named:
    """A schedule whose repr is the call that made it."""

    def __init__(self, schedule: Schedule, text: str) -> None:
        self._schedule, self._text = schedule, text

    def __call__(self, step: Any) -> Any:
        return self._schedule(step)

    def __repr__(self) -> str:
        return self._text


def _named(make: _Make) -> _Make:
    """The function, whose schedules get a repr."""

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Schedule:
        inside = [*map(repr, args), *(f"{name}={x!r}" for name, x in kwargs.items())]
        return _Named(make(*args, **kwargs), f"{make.__name__}({', '.join(inside)})")

    return cast(_Make, made)


def _library(step: Any) -> Any:
    """The array library that the step comes from; NumPy for Python numbers."""
    # No import is needed: a step from torch or JAX shows that its library is already imported.
    root = type(step).__module__.partition(".")[0]
    if root == "torch":
        return sys.modules["torch"]
    return sys.modules["jax.numpy"] if root in ("jax", "jaxlib") else np


def _schedule(temperature: Callable[[Any, Any], Any]) -> Schedule:
    """Make a schedule from a function of the array library and the step."""

    def schedule(step: Any) -> Any:
        if isinstance(step, (int, float)):
            return float(temperature(np, np.float64(step)))
        return temperature(_library(step), step)

    return schedule


def _positive(**arguments: float) -> None:
    for name, value in arguments.items():
        if not _errors.is_number(value) or not 0 < value < math.inf:
            raise ValueError(
                f"The schedule got {name}={value!r}; expected a positive finite number, since a "
                f"temperature is positive. Give a {name} above zero."
            )


def _rate(rate: float) -> None:
    if not _errors.is_number(rate) or not 0 <= rate < math.inf:
        raise ValueError(
            f"The schedule got rate={rate!r}; expected a finite number of at least 0. "
            "Give the decay per step as a positive number."
        )


def _since(step: Any, start: float) -> Any:
    """The number of steps since the step ``start``; 0 before that step."""
    if isinstance(step, (int, float)):
        return max(step - start, 0)
    return _library(step).where(step < start, 0, step - start)


@_named
def constant(value: float) -> Schedule:
    r"""The same temperature at every step.

    Args:
        value: The temperature, positive.

    Returns:
        A function from a step to the temperature.

    Example:
        >>> constant(0.5)(100)
        0.5
    """
    _positive(value=value)
    return _schedule(lambda xp, step: value + 0.0 * step)


@_named
def linear(start: float, stop: float, steps: int) -> Schedule:
    """A straight line from one temperature to another, and then a constant.

    At step s the temperature is ``start + (stop - start) * min(s / steps, 1)``.

    Args:
        start: The temperature at step 0, positive.
        stop: The temperature from step ``steps`` on, positive.
        steps: The number of steps from ``start`` to ``stop``, at least 1.

    Returns:
        A function from a step to the temperature.

    Example:
        >>> linear(1.0, 0.5, steps=100)(50)
        0.75
    """
    _positive(start=start, stop=stop, steps=steps)
    return _schedule(lambda xp, step: start + (stop - start) * xp.clip(step / steps, 0.0, 1.0))


@_named
def exponential(start: float, rate: float, floor: float, every: int = 1) -> Schedule:
    """The exponential decay of Jang et al., in stairs of ``every`` steps, down to a floor.

    At step s the temperature is ``max(floor, start * exp(-rate * (s // every * every)))``.

    Args:
        start: The temperature at step 0, positive.
        rate: The decay per step, at least 0; Jang et al. take 1e-5 to 1e-4.
        floor: The lowest temperature, positive; Jang et al. take 0.5.
        every: The number of steps between changes of the temperature, at least 1.

    Returns:
        A function from a step to the temperature.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 4.2.

    Example:
        >>> schedule = exponential(1.0, rate=1e-3, floor=0.5, every=100)
        >>> [round(schedule(step), 4) for step in (0, 99, 100, 5000)]
        [1.0, 1.0, 0.9048, 0.5]
    """
    _positive(start=start, floor=floor, every=every)
    _rate(rate)
    return _schedule(
        lambda xp, step: xp.clip(start * xp.exp(-rate * (step // every * every)), floor, math.inf)
    )


@_named
def cosine(start: float, stop: float, steps: int) -> Schedule:
    """Half a period of a cosine from one temperature to another, and then a constant.

    At step s the temperature is ``stop + (start - stop) * (1 + cos(pi * min(s / steps, 1))) / 2``.

    Args:
        start: The temperature at step 0, positive.
        stop: The temperature from step ``steps`` on, positive.
        steps: The number of steps from ``start`` to ``stop``, at least 1.

    Returns:
        A function from a step to the temperature.

    Example:
        >>> round(cosine(1.0, 0.5, steps=100)(50), 6)
        0.75
    """
    _positive(start=start, stop=stop, steps=steps)
    return _schedule(
        lambda xp, step: (
            stop + (start - stop) / 2 * (1 + xp.cos(math.pi * xp.clip(step / steps, 0.0, 1.0)))
        )
    )


@_named
def inverse_time(start: float, rate: float, floor: float) -> Schedule:
    """A decay that becomes slower with every step, down to a floor.

    At step s the temperature is ``max(floor, start / (1 + rate * s))``.

    Args:
        start: The temperature at step 0, positive.
        rate: The speed of the decay, at least 0. At step ``1 / rate`` the temperature is half of
            ``start``, or ``floor`` if that is higher.
        floor: The lowest temperature, positive.

    Returns:
        A function from a step to the temperature.

    Example:
        >>> schedule = inverse_time(1.0, rate=0.01, floor=0.2)
        >>> [schedule(step) for step in (0, 100, 1000)]
        [1.0, 0.5, 0.2]
    """
    _positive(start=start, floor=floor)
    _rate(rate)
    return _schedule(lambda xp, step: xp.clip(start / (1.0 + rate * step), floor, math.inf))


@_named
def polynomial(start: float, stop: float, steps: int, power: float) -> Schedule:
    """A decay by a power of the number of steps that are left, and then a constant.

    At step s the temperature is ``stop + (start - stop) * (1 - min(s / steps, 1)) ** power``.

    Args:
        start: The temperature at step 0, positive.
        stop: The temperature from step ``steps`` on, positive.
        steps: The number of steps from ``start`` to ``stop``, at least 1.
        power: The power, positive. At 1 the schedule is `linear`; above 1 it changes fast at first,
            and below 1 slowly at first.

    Returns:
        A function from a step to the temperature.

    Example:
        >>> polynomial(1.0, 0.5, steps=100, power=2)(50)
        0.625
    """
    _positive(start=start, stop=stop, steps=steps, power=power)
    return _schedule(
        lambda xp, step: stop + (start - stop) * (1.0 - xp.clip(step / steps, 0.0, 1.0)) ** power
    )


@_named
def piecewise(start: float, changes: Mapping[int, float]) -> Schedule:
    """A temperature that changes at given steps, and is constant in between.

    Args:
        start: The temperature from step 0 on, positive.
        changes: A mapping from steps above 0 to the positive temperatures from these steps on.

    Returns:
        A function from a step to the temperature.

    Example:
        >>> schedule = piecewise(1.0, {100: 0.7, 200: 0.5})
        >>> [schedule(step) for step in (0, 99, 100, 200, 5000)]
        [1.0, 1.0, 0.7, 0.5, 0.5]
    """
    _positive(start=start)
    for step, value in changes.items():
        _positive(step=step, temperature=value)
    ordered = sorted(changes.items())

    def temperature(xp: Any, step: Any) -> Any:
        now = start + 0.0 * step
        for change, value in ordered:
            now = xp.where(step < change, now, value)
        return now

    return _schedule(temperature)


@_named
def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """One schedule after another, where each schedule starts at its own step 0.

    Args:
        schedules: The schedules, in the order of their steps.
        boundaries: The steps at which the second and each later schedule starts, increasing and
            above 0.

    Returns:
        A function from a step to the temperature.

    Example:
        >>> schedule = join([linear(2.0, 1.0, steps=10), constant(0.5)], [10])
        >>> [schedule(step) for step in (0, 9, 10, 11)]
        [2.0, 1.1, 0.5, 0.5]
    """
    starts = [0, *boundaries]
    if len(schedules) != len(starts) or sorted({*starts}) != starts:
        raise ValueError(
            f"join got {len(schedules)} schedules and the boundaries {list(boundaries)}; expected "
            "one boundary fewer than schedules, increasing and above 0. Give the first step of "
            "each schedule but the first."
        )

    def schedule(step: Any) -> Any:
        if isinstance(step, (int, float)):
            place = bisect_right(boundaries, step)
            return schedules[place](step - starts[place])
        now = schedules[0](step)
        for start, after in zip(starts[1:], schedules[1:], strict=True):
            now = _library(step).where(step < start, now, after(_since(step, start)))
        return now

    return schedule


@_named
def warmup(schedule: Schedule, steps: int) -> Schedule:
    """Keep a schedule's first temperature for some steps, and then start the schedule.

    At the steps 0 to ``steps`` the temperature is ``schedule(0)``; at step ``steps + s`` it is
    ``schedule(s)``. So the model first trains at a constant temperature.

    Args:
        schedule: The schedule to start later.
        steps: The number of steps to wait, at least 1.

    Returns:
        A function from a step to the temperature.

    Example:
        >>> schedule = warmup(linear(1.0, 0.5, steps=100), steps=50)
        >>> [schedule(step) for step in (0, 50, 100, 150)]
        [1.0, 1.0, 0.75, 0.5]
    """
    _positive(steps=steps)
    return lambda step: schedule(_since(step, steps))
