"""Functions of a sample site's distribution, which may be inside wrappers such as masks."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import distributions as torch_dist

from .._adapter import TORCH_RELAXED, LogitsDistribution, RelaxedDistribution
from .discrete import Bernoulli, OneHotCategorical


def rewrapped(fn: Any, change: Callable[[Any], Any]) -> Any:
    """The distribution of a site with the innermost distribution replaced, in the same wrappers.

    Args:
        fn: A distribution, perhaps made independent, masked or expanded.
        change: A function from the innermost distribution to its replacement, of the same batch
            shape.
    """
    if isinstance(fn, torch_dist.Independent):
        return rewrapped(fn.base_dist, change).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution):
        return rewrapped(fn.base_dist, change).mask(fn._mask)
    if isinstance(fn, ExpandedDistribution):
        return rewrapped(fn.base_dist, change).expand(fn.batch_shape)
    return change(fn)


def unmasked(fn: Any) -> Any:
    """The distribution of a site without its masks."""
    if isinstance(fn, dist.MaskedDistribution):
        return unmasked(fn.base_dist)
    if isinstance(fn, ExpandedDistribution):
        return unmasked(fn.base_dist).expand(fn.batch_shape)
    return fn


def innermost(fn: Any) -> Any:
    """The distribution inside all wrappers."""
    while isinstance(fn, torch_dist.Independent | dist.MaskedDistribution | ExpandedDistribution):
        fn = fn.base_dist
    return fn


def discrete(base: Any) -> Any:
    """The one-hot or Bernoulli counterpart of a distribution; None if it has none.

    Args:
        base: A distribution without wrappers, of this library or of torch.
    """
    if isinstance(base, LogitsDistribution):
        counterpart = base.discrete
        return counterpart if isinstance(counterpart, OneHotCategorical | Bernoulli) else None
    if isinstance(base, TORCH_RELAXED):
        counterpart = OneHotCategorical if len(base.event_shape) else Bernoulli
        return counterpart(logits=base.logits, validate_args=False)
    for ours in (OneHotCategorical, Bernoulli):
        # Pyro's distributions, also its straight-through one, are instances of torch's classes.
        if isinstance(base, getattr(torch_dist, ours.__name__)):
            # Use the parameter that the user gave: for probs of 0 torch's logits are -16, not -inf.
            given = getattr(base, "_categorical", base).__dict__
            name = "probs" if "probs" in given else "logits"
            return ours(**{name: getattr(base, name)}, validate_args=False)
    return None


def straight_through(base: Any) -> bool:
    """Whether a distribution has hard values with the gradient and density of relaxed samples."""
    return isinstance(base, LogitsDistribution) and base._family.needs_sample


def rounds(fn: Any) -> bool:
    """Whether a site is of the framework's own relaxed classes, which score rounded values."""
    base = innermost(fn)
    if isinstance(base, torch_dist.RelaxedOneHotCategorical | torch_dist.RelaxedBernoulli):
        return True
    return isinstance(base, torch_dist.TransformedDistribution) and rounds(base.base_dist)


def kind(fn: Any) -> str | None:
    """A site's kind: "relaxed", "discrete", "estimated" (discrete with an estimator), else None.

    Args:
        fn: A distribution of this library or of the framework, perhaps in wrappers.
    """
    base = innermost(fn)
    if isinstance(base, (RelaxedDistribution, *TORCH_RELAXED)):
        return "relaxed"
    if isinstance(base, torch_dist.TransformedDistribution):
        return kind(base.base_dist)
    try:
        if not base.support.is_discrete:
            return None
    except (AttributeError, NotImplementedError):  # the distribution has no support
        return None
    return "estimated" if base.has_rsample else "discrete"
