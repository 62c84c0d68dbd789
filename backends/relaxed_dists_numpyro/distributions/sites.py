"""The distribution of a sample site inside the wrappers that NumPyro puts around it."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from .._adapter import LogitsDistribution, RelaxedDistribution
from .discrete import Bernoulli, OneHotCategorical


def rewrapped(fn: Any, change: Callable[[Any], Any]) -> Any:
    """The distribution of a site, with the innermost one changed and the wrappers as they were.

    Args:
        fn: A distribution, perhaps made independent, masked or expanded.
        change: From the innermost distribution to the one in its place, of the same batch shape.
    """
    if isinstance(fn, dist.Independent):
        return rewrapped(fn.base_dist, change).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution):
        return rewrapped(fn.base_dist, change).mask(fn._mask)
    if isinstance(fn, dist.ExpandedDistribution):
        return rewrapped(fn.base_dist, change).expand(fn.batch_shape)
    return change(fn)


def innermost(fn: Any) -> Any:
    """The distribution inside the wrappers."""
    while isinstance(fn, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution):
        fn = fn.base_dist
    return fn


def discrete(base: Any) -> Any:
    """The one-hot or Bernoulli distribution with the same parameters; None if there is none.

    Args:
        base: A distribution without wrappers: of this library or NumPyro's own.
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
    """Whether a distribution's values are hard, with the gradient and the density of soft ones."""
    return isinstance(base, LogitsDistribution) and base._family.needs_sample


def kind(fn: Any) -> str | None:
    """Which sort of distribution a site draws from: relaxed, estimated, discrete, or none of these.

    Args:
        fn: A distribution, perhaps in wrappers: of this library or the framework's own.
    """
    base = innermost(fn)
    if isinstance(base, RelaxedDistribution | dist.RelaxedBernoulliLogits):
        return "relaxed"
    if isinstance(base, dist.TransformedDistribution):
        return kind(base.base_dist)
    # With an estimator, the support is not marked discrete.
    if isinstance(base, LogitsDistribution):
        return "estimated" if base.has_rsample else "discrete"
    return "discrete" if getattr(base.support, "is_discrete", False) else None
