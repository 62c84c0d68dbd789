"""The relaxed sample behind a value: a map from the identity of a live array or tracer.

NumPyro hands intermediates only to the distribution that drew the value; the map serves the model's
side, where the same object comes back. An entry goes when its value does.
"""

import weakref
from typing import Any

from jax import Array

_SPACES = ("log_simplex", "logit", "soft", "masses")
_relaxed: dict[int, tuple[Any, str, Any]] = {}


def keep_relaxed(value: Array, sample: Any, space: str) -> Array:
    """Put the relaxed sample behind the value, in the named space, and return the value."""
    key = id(value)
    _relaxed[key] = (weakref.ref(value, lambda _: _relaxed.pop(key, None)), space, sample)
    return value


def carried(value: Any) -> bool:
    """Whether anything is behind the value."""
    return any(get_relaxed(value, space) is not None for space in _SPACES)


def get_relaxed(value: Any, space: str) -> Any:
    """The relaxed sample behind the value, or None where it is lost or of another space."""
    reference, stored, sample = _relaxed.get(id(value), (lambda: None, "", None))
    return sample if stored == space and reference() is value else None


def find_relaxed(value: Any, intermediates: list[Any] | None, space: str) -> Any:
    """The sample among a draw's intermediates, or behind it; None where it is lost.

    A value that came out of a scan has its intermediates alone. They are put behind it, since the
    model's side of an ELBO gets the same object without them, or, out of a cond, with those of
    another draw, which NumPyro has made there before it replays the guide's value.
    """
    sample = get_relaxed(value, space)
    if sample is None and intermediates:
        sample = intermediates[0]
        keep_relaxed(value, sample, space)
    return sample
