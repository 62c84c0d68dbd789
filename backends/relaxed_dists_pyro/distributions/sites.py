"""The distribution of a sample site inside the wrappers that Pyro puts around it."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import distributions as torch_dist

from .._adapter import TORCH_RELAXED, LogitsDistribution, RelaxedDistribution
from .discrete import Bernoulli, OneHotCategorical


def rewrapped(fn: Any, change: Callable[[Any], Any]) -> Any:
    """The distribution of a site, with the innermost one changed and the wrappers as they were.

    Args:
        fn: A distribution, perhaps made independent, masked or expanded.
        change: From the innermost distribution to the one in its place, of the same batch shape.
    """
    if isinstance(fn, torch_dist.Independent):
        return rewrapped(fn.base_dist, change).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution):
        return rewrapped(fn.base_dist, change).mask(fn._mask)
    if isinstance(fn, ExpandedDistribution):
        return rewrapped(fn.base_dist, change).expand(fn.batch_shape)
    return change(fn)


def innermost(fn: Any) -> Any:
    """The distribution inside the wrappers."""
    while isinstance(fn, torch_dist.Independent | dist.MaskedDistribution | ExpandedDistribution):
        fn = fn.base_dist
    return fn


def discrete(base: Any) -> Any:
    """The one-hot or Bernoulli distribution with the same parameters; None if there is none.

    Args:
        base: A distribution without wrappers: of this library or torch's own.
    """
    if isinstance(base, LogitsDistribution):
        counterpart = base.discrete
        return counterpart if isinstance(counterpart, OneHotCategorical | Bernoulli) else None
    if isinstance(base, TORCH_RELAXED):
        counterpart = OneHotCategorical if len(base.event_shape) else Bernoulli
        return counterpart(logits=base.logits, validate_args=False)
    for ours in (OneHotCategorical, Bernoulli):
        # The instances of torch's class include Pyro's, and its straight-through distribution.
        if isinstance(base, getattr(torch_dist, ours.__name__)):
            # Take the parameter that was given: torch's logits of probs of 0 are -16, no mask.
            given = getattr(base, "_categorical", base).__dict__
            name = "probs" if "probs" in given else "logits"
            return ours(**{name: getattr(base, name)}, validate_args=False)
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
    if isinstance(base, (RelaxedDistribution, *TORCH_RELAXED)):
        return "relaxed"
    if isinstance(base, torch_dist.TransformedDistribution):
        return kind(base.base_dist)
    try:
        if not base.support.is_discrete:
            return None
    except (AttributeError, NotImplementedError):  # a distribution that does not state its support
        return None
    return "estimated" if base.has_rsample else "discrete"
