"""KL divergences, registered only where they are exact: within the discrete family."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions.discrete import BernoulliLogits, BernoulliProbs
from numpyro.distributions.kl import kl_divergence

from relaxed_dists import _formulas

from ._discrete import Bernoulli, OneHotCategorical
from ._ops import compute_dtype, ops


def _kl_discrete(p: Any, q: Any) -> Array:
    p_logits, q_logits = jnp.asarray(p.logits), jnp.asarray(q.logits)  # NumPyro's may be floats
    dtype, own = compute_dtype(p_logits, q_logits), p_logits.dtype
    p_logits, q_logits = p_logits.astype(dtype), q_logits.astype(dtype)
    if not isinstance(p, OneHotCategorical):
        p_logits, q_logits = (
            _formulas.bernoulli_log_probs(ops, logits) for logits in (p_logits, q_logits)
        )
    return _formulas.categorical_kl(ops, p_logits, q_logits).astype(own)


kl_divergence.add((OneHotCategorical, OneHotCategorical), _kl_discrete)
kl_divergence.add((Bernoulli, Bernoulli), _kl_discrete)
for _theirs in (BernoulliLogits, BernoulliProbs):
    kl_divergence.add((Bernoulli, _theirs), _kl_discrete)
    kl_divergence.add((_theirs, Bernoulli), _kl_discrete)
