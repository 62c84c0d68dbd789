"""KL divergences, registered only where they are exact: within the discrete family, and
between relaxed laws on one space."""

import itertools
from typing import Any, Never, cast

from jax import Array
from numpyro.distributions.discrete import (
    BernoulliLogits,
    BernoulliProbs,
    CategoricalLogits,
    CategoricalProbs,
)
from numpyro.distributions.kl import kl_divergence

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.divergences import check_shapes

from .._adapter import LogitsDistribution, RelaxedDistribution
from .._jax.ops import compute_dtype, ops
from .._jax.quadrature import kl
from .bernoulli import LogitRelaxedBernoulli, RelaxedBernoulli
from .discrete import Bernoulli, OneHotCategorical
from .one_hot import ExpRelaxedOneHotCategorical, RelaxedOneHotCategorical
from .sites import discrete

_SPACES = (  # of their values; those of a straight-through law are scored as its parent's
    ExpRelaxedOneHotCategorical,
    RelaxedOneHotCategorical,
    LogitRelaxedBernoulli,
    RelaxedBernoulli,
)


def _logits(distribution: Any) -> Array:
    """The logits; those of NumPyro's own distribution as it was given, so that probs stay exact."""
    is_ours = isinstance(distribution, LogitsDistribution)
    ours = distribution if is_ours else discrete(distribution)
    return cast(Array, ours.logits)


def _kl_discrete(p: Any, q: Any) -> Array:
    check_shapes(p, q)
    p_logits, q_logits = _logits(p), _logits(q)
    dtype = compute_dtype(p_logits, q_logits)
    p_logits, q_logits = p_logits.astype(dtype), q_logits.astype(dtype)
    if not p.event_shape:
        p_logits, q_logits = (
            formulas.bernoulli_log_probs(ops, logits) for logits in (p_logits, q_logits)
        )
    return formulas.categorical_kl(ops, p_logits, q_logits)


kl_divergence.add((OneHotCategorical, OneHotCategorical), _kl_discrete)
kl_divergence.add((Bernoulli, Bernoulli), _kl_discrete)
for _theirs in (BernoulliLogits, BernoulliProbs):
    kl_divergence.add((Bernoulli, _theirs), _kl_discrete)
    kl_divergence.add((_theirs, Bernoulli), _kl_discrete)


def _kl_relaxed(p: Any, q: Any) -> Array:
    check_shapes(p, q)
    (p_logits, p_temperature), (q_logits, q_temperature) = p._parameters(), q._parameters()
    dtype = compute_dtype(p_logits, q_logits)
    mine = p_logits.astype(dtype), p_temperature.astype(dtype)
    other = q_logits.astype(dtype), q_temperature.astype(dtype)
    return kl(p._rows, mine, other)


for _space in _SPACES:
    kl_divergence.add((_space, _space), _kl_relaxed)


# A ValueError: at a NotImplementedError TraceMeanField_ELBO would go on with an estimate.


def _refuse(p: Any, q: Any) -> Never:
    raise _errors.no_kl(p, q)


def _refuse_spaces(p: Any, q: Any) -> Never:
    raise _errors.no_common_space(p, q)


_DISCRETE = (BernoulliLogits, BernoulliProbs, CategoricalLogits, CategoricalProbs)
for _unlike in itertools.permutations(_SPACES, 2):
    kl_divergence.add(_unlike, _refuse_spaces)
for _mass in (OneHotCategorical, Bernoulli, *_DISCRETE):
    kl_divergence.add((RelaxedDistribution, _mass), _refuse)
    kl_divergence.add((_mass, RelaxedDistribution), _refuse)
