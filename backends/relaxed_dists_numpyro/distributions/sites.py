"""The law of a sample site, inside the wrappers that NumPyro puts around it."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from .._adapter import LogitsDistribution, RelaxedDistribution
from .discrete import Bernoulli, OneHotCategorical


def rewrapped(fn: Any, change: Callable[[Any], Any]) -> Any:
    """What a site draws from, with its innermost law changed and the wrappers as they were.

    Args:
        fn: A law, perhaps made independent, masked or expanded.
        change: From the innermost law to the one in its place, of the same batch shape.
    """
    if isinstance(fn, dist.Independent):
        return rewrapped(fn.base_dist, change).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution):
        return rewrapped(fn.base_dist, change).mask(fn._mask)
    if isinstance(fn, dist.ExpandedDistribution):
        return rewrapped(fn.base_dist, change).expand(fn.batch_shape)
    return change(fn)


def innermost(fn: Any) -> Any:
    """The law inside the wrappers."""
    while isinstance(fn, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution):
        fn = fn.base_dist
    return fn


def discrete(law: Any) -> Any:
    """The plain one-hot or Bernoulli law with a law's parameters; None if there is none.

    Args:
        law: A law without wrappers: of this library or NumPyro's own.
    """
    if isinstance(law, LogitsDistribution):
        counterpart = law.discrete
        return counterpart if isinstance(counterpart, OneHotCategorical | Bernoulli) else None
    if isinstance(law, dist.RelaxedBernoulliLogits):
        return Bernoulli(logits=jnp.broadcast_to(law.logits, law.batch_shape), validate_args=False)
    if isinstance(law, dist.BernoulliProbs):
        return Bernoulli(probs=law.probs, validate_args=False)
    if isinstance(law, dist.BernoulliLogits):
        return Bernoulli(logits=law.logits, validate_args=False)
    return None


def straight_through(base: Any) -> bool:
    """Whether a distribution's values are hard, with the gradient and the density of soft ones."""
    return isinstance(base, LogitsDistribution) and base._family.needs_sample


def kind(fn: Any) -> str | None:
    """Which sort of law a site draws from: relaxed, estimated, discrete, or none of these.

    Args:
        fn: A law, perhaps in wrappers: of this library or the framework's own.
    """
    law = innermost(fn)
    if isinstance(law, RelaxedDistribution | dist.RelaxedBernoulliLogits):
        return "relaxed"
    if isinstance(law, dist.TransformedDistribution):
        return kind(law.base_dist)
    if isinstance(law, LogitsDistribution):  # an estimated law's support is not marked discrete
        return "estimated" if law.has_rsample else "discrete"
    return "discrete" if getattr(law.support, "is_discrete", False) else None
