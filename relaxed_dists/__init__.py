"""Relaxed discrete distributions for Pyro and NumPyro, with the same names and mathematics in both.

Import the distributions from `relaxed_dists.pyro` or `relaxed_dists.numpyro`, functions that need
torch or JAX alone from `relaxed_dists.torch` or `relaxed_dists.jax`. The package ``relaxed_dists``
itself imports neither torch nor jax.
"""

from relaxed_dists import schedules
from relaxed_dists._config import show_config
from relaxed_dists._distributions.estimator_base import Estimator
from relaxed_dists._ops import Array, ArrayLike

__version__ = "0.1.0"
__all__ = ["Array", "ArrayLike", "Estimator", "__version__", "schedules", "show_config"]
