"""Arguments as arrays of real numbers, their common dtype, and whether their numbers are known."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from relaxed_dists import _errors


def known(x: Any) -> bool:
    """Whether the numbers of an array can be read; False for a tracer."""
    return not isinstance(x, jax.core.Tracer)


def holds(condition: Any) -> bool:
    """Whether a condition is true everywhere; True if its numbers aren't known."""
    return not known(condition) or bool(np.all(condition))


def at_once(x: Any) -> AbstractContextManager[Any]:
    """A context in which JAX computes with a constant x at once, also inside jit.

    So the numbers that are computed from x can be checked. If x is a tracer, the context does
    nothing.
    """
    return jax.ensure_compile_time_eval() if known(x) else nullcontext()


def real(x: Any, name: str, what: str) -> Array | float:
    """x as an array; a Python number, which has no dtype, as a float."""
    try:
        if isinstance(x, int | float):
            return float(x)
        if isinstance(x, str):  # JAX would take the string for the name of a dtype
            raise TypeError("a string")
        # JAX 0.5's asarray refuses some tracers inside ensure_compile_time_eval.
        array = jnp.asarray(x) if known(x) else x
    except (TypeError, ValueError, OverflowError) as error:
        raise _errors.not_real(name, what, x) from error
    kind = array.dtype
    fine = any(jnp.issubdtype(kind, k) for k in (jnp.floating, jnp.integer, jnp.bool_))
    if not fine or (jnp.issubdtype(kind, jnp.floating) and kind.itemsize == 1):
        raise _errors.not_real(name, what, array)
    return array


def result_dtype(x: Array | float, y: Array | float) -> Any:
    """The dtype to which JAX promotes x and y, or the default floating dtype for integers."""
    dtype = jnp.result_type(x, y)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
