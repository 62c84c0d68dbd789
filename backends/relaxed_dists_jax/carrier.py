"""The relaxed sample behind a value: a map from the identity of a live array or tracer.

NumPyro passes intermediates only to the distribution that drew the value. The model's distribution
gets the same value without them, and finds the sample in the map. An entry is removed when its
value is freed.
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
    """The sample behind a value, or else among its intermediates; None where it is lost.

    A value that comes out of a scan is a new object, and has only its intermediates. So the sample
    is put behind it here: in an ELBO the model's distribution gets the same object without
    intermediates. (In a cond it gets the intermediates of another draw, which NumPyro made before
    it replayed the guide's value, so the sample behind the value comes first.)
    """
    sample = get_relaxed(value, space)
    if sample is None and intermediates:
        sample = intermediates[0]
        keep_relaxed(value, sample, space)
    return sample
