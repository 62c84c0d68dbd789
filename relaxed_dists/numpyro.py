"""The distributions, estimators and inference of relaxed-dists for NumPyro (JAX)."""

try:
    import numpyro  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in {"numpyro", "jax", "jaxlib"}:
        raise
    raise ModuleNotFoundError(
        f"relaxed_dists.numpyro needs {error.name}, which is not installed. "
        "Install the extra: pip install 'relaxed-dists[numpyro]'",
        name=error.name,
    ) from error

from relaxed_dists_numpyro import *  # noqa: F403
from relaxed_dists_numpyro import __all__ as __all__
