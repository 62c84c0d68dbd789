"""Relaxed sites as deterministic functions of noise without parameters."""

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.reparam.reparam import Reparam
from torch import Tensor

from relaxed_dists._infer import relax
from relaxed_dists_torch.noise import gumbel, logistic
from relaxed_dists_torch.ops import ops

from .._adapter import RelaxedDistribution
from ..distributions.bernoulli import (
    RelaxedBernoulli,
    RelaxedBernoulliStraightThrough,
)
from ..distributions.one_hot import (
    RelaxedOneHotCategorical,
    RelaxedOneHotCategoricalStraightThrough,
)
from ..distributions.sites import discrete, innermost, rewrapped
from .relax import deterministic, inside


class _Gumbel(dist.Gumbel):
    """Pyro's distribution with this library's noise, whose upper tail is exact."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return gumbel(self._extended_shape(torch.Size(sample_shape)), self.loc)


class _Logistic(dist.Logistic):
    """Pyro's distribution with this library's noise."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return logistic(self._extended_shape(torch.Size(sample_shape)), self.loc)


_RELAXED = (  # straight-through first, as in Pyro these are subclasses of the others
    RelaxedOneHotCategoricalStraightThrough,
    RelaxedBernoulliStraightThrough,
    RelaxedOneHotCategorical,
    RelaxedBernoulli,
)


def _ours(base: Any) -> Any:
    """A relaxed distribution of Pyro or this library as one of this library; None for others."""
    if isinstance(base, RelaxedDistribution):
        return base if discrete(base) is not None else None
    for ours in _RELAXED:
        if isinstance(base, getattr(dist, ours.__name__)):
            return ours(base.temperature, logits=base.logits)
    return None


class GumbelSoftmaxReparam(Reparam):
    """Makes a relaxed site a deterministic function of noise without parameters.

    A relaxed site ``x``, of this library or Pyro's own, becomes a site ``x_gumbel`` of standard
    Gumbel noise, which has one dimension more than the simplex. The value of ``x`` is then
    computed: ``softmax((logits + G) / temperature)``, or its log, or its hard version, as the
    original distribution has it. A binary site becomes ``x_logistic``, with standard logistic
    noise. This makes multimodal posteriors unimodal and needs no bijector, so that masked
    categories work under autoguides and NUTS. `relax` turns a site ``z`` into a relaxed site
    ``z_relaxed`` and a deterministic ``z``: there, apply this class to ``z_relaxed``.

    Pyro's class of this name draws ``x_uniform``, from which float32 can make no Gumbel value above
    16.6. Here the noise is the site itself, so its tail is exact.

    Pyro's ``AutoReparam`` looks only for torch's relaxed class, and ignores the sites of this
    library. Name these sites: ``strategy = AutoReparam()``, and then
    ``strategy.config["x"] = GumbelSoftmaxReparam()``.

    Raises:
        ValueError: If the site's distribution is neither a relaxed one-hot nor a relaxed Bernoulli
            one.
        NotImplementedError: If the site is observed.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> import pyro
        >>> import torch
        >>> from pyro import poutine
        >>> from relaxed_dists.pyro import RelaxedOneHotCategorical
        >>> def model():
        ...     return pyro.sample("x", RelaxedOneHotCategorical(0.5, logits=torch.zeros(3)))
        >>> noisy = poutine.reparam(model, config={"x": GumbelSoftmaxReparam()})
        >>> list(poutine.trace(noisy).get_trace().stochastic_nodes)
        ['x_gumbel']
    """

    def apply(self, msg: Any) -> Any:
        """Draw the noise; Pyro's ``reparam`` handler calls this method.

        Args:
            msg: A dictionary with the site's name, distribution, initial value (or None), and
                whether the site is observed.

        Returns:
            A dictionary with the new distribution and value, and whether the site is now observed.
        """
        name, fn, value = msg["name"], msg["fn"], msg["value"]
        base = _ours(innermost(fn))
        if base is None:
            raise relax.no_noise(name, type(innermost(fn)).__name__)
        if msg["is_observed"]:
            raise relax.noise_observed(name)
        p, family = base._parameters(), base._family
        zero, one_hot = torch.zeros_like(p.logits), family.event_dim > 0
        noise = _Gumbel(zero, 1.0).to_event(1) if one_hot else _Logistic(zero, 1.0)
        around = rewrapped(fn, lambda _: noise)
        site = f"{name}_gumbel" if one_hot else f"{name}_logistic"
        if value is None:
            value = base._as_value(family.draw(ops, p, pyro.sample(site, around))[0])
        else:
            y = inside(value, one_hot) if family.space else value
            temperature = p.temperature[..., None] if one_hot else p.temperature
            scores = temperature * y.to(p.logits.dtype) - p.logits
            draw = torch.where(p.logits.isfinite(), scores, 0.0)
            pyro.sample(site, around, obs=draw, infer={"is_observed": False})
        return deterministic(value, fn.event_dim)
