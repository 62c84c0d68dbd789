"""Code for older versions of JAX, with the version from which it is not needed any more."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

# Before JAX 0.7.1, explicit axes of meshes, and types that say along which axes arrays vary, are
# experimental or missing.
HAS_TYPED_MESHES = hasattr(jax, "set_mesh")


def key_impl(key: Any) -> str:
    """The name of a key's generator."""
    found = jax.random.key_impl(key)  # a name; before JAX 0.4.38, an object that has the name
    return found if isinstance(found, str) else str(found._impl.name)


def linear(f: Callable[[Array], Array], x: Array) -> Array:
    """f(x), where f is a linear function.

    Up to JAX 0.7.2, and no more in 0.10, the transpose of a scan over x in a function with a rule
    of custom_jvp fails, unless x is a tangent of jax.jvp.
    """
    if jax.__version_info__ >= (0, 10):
        return f(x)
    return jax.jvp(f, (jnp.zeros_like(x),), (x,))[1]
