"""Functions of a sample site's distribution, which may be inside wrappers such as masks."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from .._adapter import LogitsDistribution, RelaxedDistribution
from .discrete import Bernoulli, OneHotCategorical


def rewrapped(fn: Any, change: Callable[[Any], Any]) -> Any:
    """The distribution of a site with the innermost distribution replaced, in the same wrappers.

    Args:
        fn: A distribution, perhaps made independent, masked or expanded.
        change: A function from the innermost distribution to its replacement, of the same batch
            shape.
    """
    if isinstance(fn, dist.Independent):
        return rewrapped(fn.base_dist, change).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution):
        return rewrapped(fn.base_dist, change).mask(fn._mask)
    if isinstance(fn, dist.ExpandedDistribution):
        return rewrapped(fn.base_dist, change).expand(fn.batch_shape)
    return change(fn)


def unmasked(fn: Any) -> Any:
    """The distribution of a site without its masks."""
    if isinstance(fn, dist.MaskedDistribution):
        return unmasked(fn.base_dist)
    if isinstance(fn, dist.ExpandedDistribution):
        return unmasked(fn.base_dist).expand(fn.batch_shape)
    return fn


def innermost(fn: Any) -> Any:
    """The distribution inside all wrappers."""
    while isinstance(fn, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution):
        fn = fn.base_dist
    return fn


def discrete(base: Any) -> Any:
    """The one-hot or Bernoulli counterpart of a distribution; None if it has none.

    Args:
        base: A distribution without wrappers, of this library or of NumPyro.
    """
    if isinstance(base, LogitsDistribution):
        counterpart = base.discrete
        return counterpart if isinstance(counterpart, OneHotCategorical | Bernoulli) else None
    if isinstance(base, dist.RelaxedBernoulliLogits):
        logits = jnp.broadcast_to(base.logits, base.batch_shape)
        return Bernoulli(logits=logits, validate_args=False)
    if isinstance(base, dist.BernoulliProbs):
        return Bernoulli(probs=base.probs, validate_args=False)
    if isinstance(base, dist.BernoulliLogits):
        return Bernoulli(logits=base.logits, validate_args=False)
    return None


def straight_through(base: Any) -> bool:
    """Whether a distribution has hard values with the gradient and density of relaxed samples."""
    return isinstance(base, LogitsDistribution) and base._family.needs_sample


def rounds(fn: Any) -> bool:
    """Whether a site is of the framework's own relaxed classes, which score rounded values."""
    return isinstance(innermost(fn), dist.RelaxedBernoulliLogits)


def kind(fn: Any) -> str | None:
    """A site's kind: "relaxed", "discrete", "estimated" (discrete with an estimator), else None.

    Args:
        fn: A distribution of this library or of the framework, perhaps in wrappers.
    """
    base = innermost(fn)
    if isinstance(base, RelaxedDistribution | dist.RelaxedBernoulliLogits):
        return "relaxed"
    if isinstance(base, dist.TransformedDistribution):
        return kind(base.base_dist)
    # The support of a distribution with an estimator is not marked as discrete.
    if isinstance(base, LogitsDistribution):
        return "estimated" if base.has_rsample else "discrete"
    return "discrete" if getattr(base.support, "is_discrete", False) else None
