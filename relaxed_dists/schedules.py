r"""Temperature schedules: pure functions from a step to a temperature.

A schedule takes a Python integer, a NumPy array, a torch tensor or a (traced) JAX array, and
returns a number or an array of the same library. Any callable can stand in a schedule's place;
an optax schedule does for JAX steps.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Schedule", "constant", "cosine", "exponential", "linear"]

Schedule = Callable[[Any], Any]
"""A function from a step to a temperature."""


def _library(step: Any) -> Any:
    """The array library that the step comes from; NumPy for Python numbers."""
    # Looked up, never imported: a step of torch or JAX shows that the framework is there already.
    root = type(step).__module__.partition(".")[0]
    if root == "torch":
        return sys.modules["torch"]
    return sys.modules["jax.numpy"] if root in ("jax", "jaxlib") else np


def _schedule(temperature: Callable[[Any, Any], Any]) -> Schedule:
    """Make a schedule of a function of the array library and the step."""

    def schedule(step: Any) -> Any:
        if isinstance(step, int | float):
            return float(temperature(np, np.float64(step)))
        return temperature(_library(step), step)

    return schedule


def _positive(**arguments: float) -> None:
    for name, value in arguments.items():
        if not 0 < value < math.inf:
            raise ValueError(
                f"The schedule got {name}={value!r}; expected a positive finite number, since a "
                f"temperature is positive. Give a {name} above zero."
            )


def constant(value: float) -> Schedule:
    r"""The same temperature at every step: :math:`\tau_s = v`.

    Args:
        value: The temperature, positive.

    Returns:
        A function from a step to the temperature, with the step's shape.

    Raises:
        ValueError: If the value is not positive and finite.

    Example:
        >>> constant(0.5)(100)
        0.5
    """
    _positive(value=value)
    return _schedule(lambda xp, step: value + 0.0 * step)


def linear(start: float, stop: float, steps: int) -> Schedule:
    r"""A straight line, then constant: :math:`\tau_s = a + (b - a) \min(s / n, 1)`.

    Args:
        start: The temperature at step 0, positive.
        stop: The temperature from step ``steps`` on, positive.
        steps: The number of steps from ``start`` to ``stop``, at least 1.

    Returns:
        A function from a step to the temperature, with the step's shape.

    Raises:
        ValueError: If an argument is not positive and finite.

    Example:
        >>> linear(1.0, 0.5, steps=100)(50)
        0.75
    """
    _positive(start=start, stop=stop, steps=steps)
    return _schedule(lambda xp, step: start + (stop - start) * xp.clip(step / steps, 0.0, 1.0))


def exponential(start: float, rate: float, floor: float, every: int = 1) -> Schedule:
    r"""The staircase of Jang et al.: :math:`\tau_s = \max(f, a \exp(-r\, m \lfloor s/m \rfloor))`.

    Args:
        start: The temperature at step 0, positive.
        rate: The decay per step, at least 0; Jang et al. take 1e-5 to 1e-4.
        floor: The lowest temperature, positive; Jang et al. take 0.5.
        every: Renew the temperature only every so many steps, at least 1.

    Returns:
        A function from a step to the temperature, with the step's shape.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 4.2.

    Example:
        >>> schedule = exponential(1.0, rate=1e-3, floor=0.5, every=100)
        >>> [round(schedule(step), 4) for step in (0, 99, 100, 5000)]
        [1.0, 1.0, 0.9048, 0.5]
    """
    _positive(start=start, floor=floor, every=every)
    if not 0 <= rate < math.inf:
        raise ValueError(
            f"The schedule got rate={rate!r}; expected a finite number of at least 0. "
            "Give the decay per step as a positive number; the minus sign is already there."
        )
    return _schedule(
        lambda xp, step: xp.clip(start * xp.exp(-rate * (step // every * every)), floor, math.inf)
    )


def cosine(start: float, stop: float, steps: int) -> Schedule:
    r"""Half a cosine, then constant: :math:`\tau_s = b + (a - b)(1 + \cos(\pi \min(s/n, 1)))/2`.

    Args:
        start: The temperature at step 0, positive.
        stop: The temperature from step ``steps`` on, positive.
        steps: The number of steps from ``start`` to ``stop``, at least 1.

    Returns:
        A function from a step to the temperature, with the step's shape.

    Raises:
        ValueError: If an argument is not positive and finite.

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


def checked(temperature: Any) -> Any:
    """Return a schedule's temperature, or say that it is not positive and finite.

    Args:
        temperature: A number or a concrete array.

    Returns:
        The temperature, as it was given.

    Raises:
        ValueError: If an entry is not positive, or is NaN or infinite.
    """
    fine = (temperature > 0) & (temperature < math.inf)
    if not bool(fine.all() if hasattr(fine, "all") else fine):
        raise ValueError(
            f"The temperature schedule yielded {temperature}; expected positive finite numbers. "
            "Give the schedule a floor above zero."
        )
    return temperature
