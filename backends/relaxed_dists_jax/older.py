"""What older versions of JAX do otherwise, and up to which version they do."""

from typing import Any

import jax


def key_impl(key: Any) -> str:
    """The name of a key's generator."""
    found = jax.random.key_impl(key)  # before JAX 0.4.38, an object with the name in it
    return found if isinstance(found, str) else str(found._impl.name)
