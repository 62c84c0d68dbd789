"""KL divergences, registered only where they are exact: between discrete distributions, and
between relaxed distributions on the same space."""

import functools
from typing import Any, NoReturn, cast

import jax.numpy as jnp
from jax import Array
from numpyro.distributions.discrete import (
    BernoulliLogits,
    BernoulliProbs,
    CategoricalLogits,
    CategoricalProbs,
)
from numpyro.distributions.kl import kl_divergence

from relaxed_dists import _errors
from relaxed_dists._distributions.divergences import check_shapes
from relaxed_dists._distributions.family import Parameters
from relaxed_dists_jax.devices import on_automatic_axes
from relaxed_dists_jax.ops import compute_dtype, ops

from .._adapter import LogitsDistribution, RelaxedDistribution
from .discrete import Bernoulli, OneHotCategorical
from .sites import discrete


def _kl(p: Any, q: Any) -> Array:
    """The KL divergence of two distributions on the same space; one may be NumPyro's own."""
    # discrete() keeps the probs or logits that the user gave to NumPyro's distribution, since
    # converting probs of exactly 0 or 1 to logits would change them.
    p, q = (x if isinstance(x, LogitsDistribution) else discrete(x) for x in (p, q))
    if p._family.scored_as is not q._family.scored_as:
        raise _errors.no_common_space(p, q)
    if not hasattr(p._family, "kl"):
        raise _errors.no_known_kl(p, q)
    check_shapes(p, q)
    dtype = compute_dtype(p.logits, q.logits)
    shape = jnp.broadcast_shapes(p.batch_shape, q.batch_shape)
    first, second = (_cast(x.expand(shape)._parameters(), dtype) for x in (p, q))
    ask = functools.partial(p._family.kl, ops, q._family)
    return cast(Array, on_automatic_axes(ask, p._family.event_dim, (first, second)))


def _cast(p: Parameters, dtype: Any) -> Parameters:
    temperature = None if p.temperature is None else p.temperature.astype(dtype)
    return Parameters(p.logits.astype(dtype), temperature)


kl_divergence.add((OneHotCategorical, OneHotCategorical), _kl)
kl_divergence.add((Bernoulli, Bernoulli), _kl)
for _builtin in (BernoulliLogits, BernoulliProbs):
    kl_divergence.add((Bernoulli, _builtin), _kl)
    kl_divergence.add((_builtin, Bernoulli), _kl)


kl_divergence.add((RelaxedDistribution, RelaxedDistribution), _kl)


# The error is a ValueError, since after a NotImplementedError TraceMeanField_ELBO would estimate
# the divergence from samples.


def _refuse(p: Any, q: Any) -> NoReturn:
    raise _errors.no_kl(p, q)


_DISCRETE = (BernoulliLogits, BernoulliProbs, CategoricalLogits, CategoricalProbs)
for _mass in (OneHotCategorical, Bernoulli, *_DISCRETE):
    kl_divergence.add((RelaxedDistribution, _mass), _refuse)
    kl_divergence.add((_mass, RelaxedDistribution), _refuse)
