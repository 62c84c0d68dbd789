"""Relaxed sites made deterministic in noise that has no parameters."""

from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer.reparam import Reparam

from relaxed_dists._infer import relax

from .._adapter import RelaxedDistribution
from .._jax.noise import gumbel, logistic
from .._jax.ops import ops
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from ..distributions.sites import discrete, innermost, rewrapped
from ..distributions.straight_through import _HardValue


class _Gumbel(dist.Gumbel):
    """NumPyro's law with this library's noise, whose upper tail is exact."""

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        return gumbel(key, tuple(sample_shape) + self.batch_shape, self.loc.dtype)


class _Logistic(dist.Logistic):
    """NumPyro's law with this library's noise."""

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        return logistic(key, tuple(sample_shape) + self.batch_shape, self.loc.dtype)


class GumbelSoftmaxReparam(Reparam):
    r"""Makes a relaxed site deterministic in noise that has no parameters.

    A relaxed site ``x`` becomes a site ``x_gumbel`` of standard Gumbel noise, one more dimension
    than the simplex has (of a binary law ``x_logistic``, standard logistic noise), and the value
    :math:`\mathrm{softmax}((\theta + G)/\tau)`, or its log or hard view as the law has it. It makes
    multimodal posteriors unimodal, and needs no bijector: masked categories work under autoguides
    and NUTS. With :class:`relax`, apply it to the site ``z_relaxed``.

    Pyro's class of this name draws ``x_uniform``, which in float32 ends at a Gumbel value of 16.6.
    Here the noise is the site itself, so its tail is exact.

    Raises:
        ValueError: If the site's law is not a relaxed one.
        NotImplementedError: If the site is observed.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> from jax import random
        >>> from numpyro import handlers
        >>> from relaxed_dists.numpyro import RelaxedOneHotCategorical
        >>> def model():
        ...     return numpyro.sample("x", RelaxedOneHotCategorical(0.5, logits=jnp.zeros(3)))
        >>> noisy = handlers.reparam(model, config={"x": GumbelSoftmaxReparam()})
        >>> list(handlers.trace(handlers.seed(noisy, random.key(0))).get_trace())
        ['x_gumbel', 'x']
    """

    def __call__(self, name: str, fn: Any, obs: Any) -> tuple[None, Array]:
        """Draw the noise, in NumPyro's ``reparam`` handler.

        Args:
            name: The site's name.
            fn: The site's law.
            obs: None, since only latent sites have noise.

        Returns:
            None in place of the law, and the value.
        """
        law = innermost(fn)
        if not isinstance(law, RelaxedDistribution) or discrete(law) is None:
            raise relax.no_noise(name, type(law).__name__)
        if obs is not None:
            raise relax.noise_observed(name)
        logits, temperature = law._parameters()
        rows = law._rows
        zero = jnp.zeros_like(logits)
        noise = _Gumbel(zero, 1.0).to_event(1) if rows else _Logistic(zero, 1.0)
        site = f"{name}_gumbel" if rows else f"{name}_logistic"
        draw = numpyro.sample(site, rewrapped(fn, lambda _: noise))
        real = isinstance(law, ExpRelaxedOneHotCategorical | LogitRelaxedBernoulli)
        hard = isinstance(law, _HardValue)
        y = relax.from_noise(ops, logits, temperature, draw, rows, real, hard)
        return None, law._as_value(y)
