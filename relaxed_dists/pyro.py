"""The distributions, estimators and inference of relaxed-dists for Pyro (torch)."""

try:
    import pyro  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in {"pyro", "torch"}:
        raise
    raise ModuleNotFoundError(
        f"relaxed_dists.pyro needs {error.name}, which is not installed. "
        "Install the extra: pip install 'relaxed-dists[pyro]'",
        name=error.name,
    ) from error

from relaxed_dists_pyro import *  # noqa: F403
from relaxed_dists_pyro import __all__ as __all__
