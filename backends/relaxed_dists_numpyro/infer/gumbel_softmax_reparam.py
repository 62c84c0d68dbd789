"""Relaxed sites as deterministic functions of noise without parameters."""

from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer.reparam import Reparam

from relaxed_dists._infer import relax
from relaxed_dists_jax.noise import gumbel, logistic
from relaxed_dists_jax.ops import ops

from .._adapter import RelaxedDistribution
from ..distributions.sites import discrete, innermost, rewrapped


class _Gumbel(dist.Gumbel):
    """NumPyro's distribution with this library's noise, whose upper tail is exact."""

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        return gumbel(key, tuple(sample_shape) + self.batch_shape, self.loc.dtype)


class _Logistic(dist.Logistic):
    """NumPyro's distribution with this library's noise."""

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        return logistic(key, tuple(sample_shape) + self.batch_shape, self.loc.dtype)


class GumbelSoftmaxReparam(Reparam):
    """Makes a relaxed site a deterministic function of noise without parameters.

    A relaxed site ``x`` becomes a site ``x_gumbel`` of standard Gumbel noise, which has one
    dimension more than the simplex. The value of ``x`` is then computed:
    ``softmax((logits + G) / temperature)``, or its log, or its hard version, as the original
    distribution has it. A binary site becomes ``x_logistic``, with standard logistic noise. This
    makes multimodal posteriors unimodal and needs no bijector, so that masked categories work under
    autoguides and NUTS. `relax` turns a site ``z`` into a relaxed site ``z_relaxed`` and a
    deterministic ``z``: there, apply this class to ``z_relaxed``.

    Pyro's class of this name draws ``x_uniform``, from which float32 can make no Gumbel value above
    16.6. Here the noise is the site itself, so its tail is exact.

    Raises:
        ValueError: If the site's distribution is neither a relaxed one-hot nor a relaxed Bernoulli
            one.
        NotImplementedError: If the site is observed.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpyro
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
        """Draw the noise; NumPyro's ``reparam`` handler calls this method.

        Args:
            name: The site's name.
            fn: The site's distribution.
            obs: None; an observed value is an error.

        Returns:
            None in place of the distribution, and the value.
        """
        base = innermost(fn)
        if not isinstance(base, RelaxedDistribution) or discrete(base) is None:
            raise relax.no_noise(name, type(base).__name__)
        if obs is not None:
            raise relax.noise_observed(name)
        p, family = base._parameters(), base._family
        zero, one_hot = jnp.zeros_like(p.logits), family.event_dim > 0
        noise = _Gumbel(zero, 1.0).to_event(1) if one_hot else _Logistic(zero, 1.0)
        site = f"{name}_gumbel" if one_hot else f"{name}_logistic"
        draw = numpyro.sample(site, rewrapped(fn, lambda _: noise))
        return None, base._as_value(family.draw(ops, p, draw)[0])
