"""The sample behind a value: the relaxed sample from which the value's log density is computed.

NumPyro passes a draw's intermediates, which have the sample, only to the distribution that drew the
value. In an ELBO the model's distribution gets the same value, an array or a tracer, without
intermediates. So a map has the sample under the value's identity. The entry is removed when the
value is freed.
"""

import weakref
from typing import Any

from jax import Array

_SPACES = ("log_simplex", "logit", "soft", "masses")
_relaxed: dict[tuple[int, str], tuple[Any, Any]] = {}


def keep_relaxed(value: Array, sample: Any, space: str) -> Array:
    """Keep the sample for the value, and return the value.

    ``space`` says what the sample is: "logit", for example, if it is the logit of the value.
    """
    key = (id(value), space)
    _relaxed[key] = (weakref.ref(value, lambda _: _relaxed.pop(key, None)), sample)
    return value


def carried(value: Any) -> bool:
    """Whether there is a relaxed sample for the value, of whatever kind."""
    return any(get_relaxed(value, space) is not None for space in _SPACES)


def get_relaxed(value: Any, space: str) -> Any:
    """The sample in the map for the value; None if there is none, or one of another space."""
    reference, sample = _relaxed.get((id(value), space), (lambda: None, None))
    return sample if reference() is value else None


def find_relaxed(value: Any, intermediates: list[Any] | None, space: str) -> Any:
    """The sample in the map for a value, or else the first intermediate; None without either.

    A value that comes out of a scan is a new object, for which the map has no sample. Then the
    sample from the intermediates is put into the map, since in an ELBO the model's distribution
    gets the same object without intermediates. The map is asked first, since in a cond the
    intermediates may be those of another draw: NumPyro draws before it replays the guide's value.
    """
    sample = get_relaxed(value, space)
    if sample is None and intermediates:
        sample = intermediates[0]
        keep_relaxed(value, sample, space)
    return sample
