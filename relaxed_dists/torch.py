"""The functions of relaxed-dists that need torch only, not Pyro."""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in {"torch"}:
        raise
    raise ModuleNotFoundError(
        f"relaxed_dists.torch needs {error.name}, which is not installed. "
        "Install the extra: pip install 'relaxed-dists[torch]'",
        name=error.name,
    ) from error

from relaxed_dists_torch import *  # noqa: F403
from relaxed_dists_torch import __all__ as __all__
