"""Code for older versions of JAX, with the version from which it is not needed any more."""

from typing import Any

import jax

# Before JAX 0.7.1, explicit axes of meshes, and types that say along which axes arrays vary, are
# experimental or missing.
HAS_TYPED_MESHES = hasattr(jax, "set_mesh")


def key_impl(key: Any) -> str:
    """The name of a key's generator."""
    found = jax.random.key_impl(key)  # a name; before JAX 0.4.38, an object that has the name
    return found if isinstance(found, str) else str(found._impl.name)
