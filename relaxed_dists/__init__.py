"""Relaxed discrete distributions for Pyro and NumPyro, with the same names and mathematics in both.

Import the distributions from :mod:`relaxed_dists.pyro` or :mod:`relaxed_dists.numpyro`, functions
that need torch or JAX alone from :mod:`relaxed_dists.torch` or :mod:`relaxed_dists.jax`. The
package ``relaxed_dists`` itself imports neither torch nor jax.
"""

from relaxed_dists import schedules
from relaxed_dists._config import show_config

__version__ = "0.1.0"
__all__ = ["__version__", "schedules", "show_config"]
