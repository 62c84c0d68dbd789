"""The functions of relaxed-dists that need JAX only, not NumPyro."""

try:
    import jax  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in {"jax", "jaxlib"}:
        raise
    raise ModuleNotFoundError(
        f"relaxed_dists.jax needs {error.name}, which is not installed. "
        "Install the extra: pip install 'relaxed-dists[jax]'",
        name=error.name,
    ) from error

from relaxed_dists_jax import *  # noqa: F403
from relaxed_dists_jax import __all__ as __all__
