"""The check of the first arguments of functions that take a random key or parameters."""

from collections.abc import Callable, Mapping
from typing import Any

from relaxed_dists import _errors
from relaxed_dists_jax.noise import is_key

_ARGUMENTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "rng_key": ("one random key, such as jax.random.key(0)", is_key),
    "params": (
        "a dict, such as svi.get_params(state), or {}",
        lambda x: isinstance(x, Mapping),
    ),
    "model": ("a function", callable),
    "guide": ("a function", callable),
}


def check_arguments(call: str, **given: Any) -> None:
    """Refuse an argument of the wrong type, as when an earlier one is missing in the call.

    Args:
        call: The function with its arguments, for the message.
        given: The arguments by name.
    """
    for name, argument in given.items():
        expected, fits = _ARGUMENTS[name]
        if not fits(argument):
            raise _errors.wrong_argument(call, name, argument, expected)
