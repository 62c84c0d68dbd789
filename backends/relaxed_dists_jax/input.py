"""Arguments as arrays of real numbers, their common dtype, and whether their numbers are known."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from relaxed_dists import _errors


def known(x: Any) -> bool:
    """Whether the numbers can be looked at; False for a tracer."""
    return not isinstance(x, jax.core.Tracer)


def holds(condition: Any) -> bool:
    """Whether all of a condition is true; true where it can't be known."""
    return not known(condition) or bool(np.all(condition))


def at_once(x: Any) -> AbstractContextManager[Any]:
    """A context that computes with constants at once, so that they are checked under jit as well.

    For a tracer it does nothing: its operations belong to the transformation that traces it.
    """
    return jax.ensure_compile_time_eval() if known(x) else nullcontext()


def real(x: Any, name: str, what: str) -> Array | float:
    """x as an array, or a Python float, which has no dtype of its own."""
    try:
        if isinstance(x, int | float):
            return float(x)
        if isinstance(x, str):  # JAX would take it as the name of a dtype
            raise TypeError("a string")
        array = jnp.asarray(x)
    except (TypeError, ValueError, OverflowError) as error:
        raise _errors.not_real(name, what, x) from error
    kind = array.dtype
    fine = any(jnp.issubdtype(kind, k) for k in (jnp.floating, jnp.integer, jnp.bool_))
    if not fine or (jnp.issubdtype(kind, jnp.floating) and kind.itemsize == 1):
        raise _errors.not_real(name, what, array)
    return array


def result_dtype(x: Array | float, y: Array | float) -> Any:
    """The dtype that JAX promotes to; the default floating dtype if that isn't floating."""
    dtype = jnp.result_type(x, y)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
