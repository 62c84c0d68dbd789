"""The sample behind a value: the relaxed sample from which the log density is computed.

A map has the sample for the identity of each live value, which is an array or a tracer. NumPyro
passes a draw's intermediates only to the distribution that drew the value. The model's distribution
gets the same value without intermediates, and finds the sample in the map. An entry of the map is
removed when its value is freed.
"""

import weakref
from typing import Any

from jax import Array

_SPACES = ("log_simplex", "logit", "soft", "masses")
_relaxed: dict[tuple[int, str], tuple[Any, Any]] = {}


def keep_relaxed(value: Array, sample: Any, space: str) -> Array:
    """Keep the sample behind the value, with the name of the sample's space; return the value."""
    key = (id(value), space)
    _relaxed[key] = (weakref.ref(value, lambda _: _relaxed.pop(key, None)), sample)
    return value


def carried(value: Any) -> bool:
    """Whether there is a sample of any space behind the value."""
    return any(get_relaxed(value, space) is not None for space in _SPACES)


def get_relaxed(value: Any, space: str) -> Any:
    """The sample behind the value; None if the value has none, or one of another space."""
    reference, sample = _relaxed.get((id(value), space), (lambda: None, None))
    return sample if reference() is value else None


def find_relaxed(value: Any, intermediates: list[Any] | None, space: str) -> Any:
    """The sample behind a value, or else the first of its intermediates; None without either.

    A value that comes out of a scan is a new object, for which the map has no sample. Then the
    sample from the intermediates is put into the map, since in an ELBO the model's distribution
    gets the same object without intermediates. The map comes first, since in a cond the
    intermediates may be those of another draw: NumPyro draws before it replays the guide's value.
    """
    sample = get_relaxed(value, space)
    if sample is None and intermediates:
        sample = intermediates[0]
        keep_relaxed(value, sample, space)
    return sample
