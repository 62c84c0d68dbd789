"""KL divergences, registered only where they are exact: within the discrete family, and
between relaxed laws on one space."""

import itertools
from typing import Any, Never, cast

from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.bernoulli import Bernoulli as TorchBernoulli
from torch.distributions.categorical import Categorical
from torch.distributions.one_hot_categorical import OneHotCategorical as TorchOneHotCategorical

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.divergences import check_shapes

from .._adapter import LogitsDistribution, RelaxedDistribution
from .._torch.ops import compute_dtype, ops
from .._torch.quadrature import kl
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


def _logits(distribution: Any) -> Tensor:
    """The logits; those of torch's own distribution as it was given, so that probs stay exact."""
    is_ours = isinstance(distribution, LogitsDistribution)
    ours = distribution if is_ours else discrete(distribution)
    return cast(Tensor, ours.logits)


def _kl_discrete(p: Any, q: Any) -> Tensor:
    check_shapes(p, q)
    p_logits, q_logits = _logits(p), _logits(q)
    dtype = compute_dtype(p_logits, q_logits)
    p_logits, q_logits = p_logits.to(dtype), q_logits.to(dtype)
    if not p.event_shape:
        p_logits, q_logits = (
            formulas.bernoulli_log_probs(ops, logits) for logits in (p_logits, q_logits)
        )
    return formulas.categorical_kl(ops, p_logits, q_logits)


for _ours, _theirs in ((OneHotCategorical, TorchOneHotCategorical), (Bernoulli, TorchBernoulli)):
    for _pair in ((_ours, _ours), (_ours, _theirs), (_theirs, _ours)):
        register_kl(*_pair)(_kl_discrete)


def _kl_relaxed(p: Any, q: Any) -> Tensor:
    check_shapes(p, q)
    (p_logits, p_temperature), (q_logits, q_temperature) = p._parameters(), q._parameters()
    dtype = compute_dtype(p_logits, q_logits)
    mine = p_logits.to(dtype), p_temperature.to(dtype)
    other = q_logits.to(dtype), q_temperature.to(dtype)
    return kl(p._rows, mine, other)


for _space in _SPACES:
    register_kl(_space, _space)(_kl_relaxed)


# A ValueError: at a NotImplementedError TraceMeanField_ELBO would go on with an estimate.


def _refuse(p: Any, q: Any) -> Never:
    raise _errors.no_kl(p, q)


def _refuse_spaces(p: Any, q: Any) -> Never:
    raise _errors.no_common_space(p, q)


for _unlike in itertools.permutations(_SPACES, 2):
    register_kl(*_unlike)(_refuse_spaces)
for _mass in (
    OneHotCategorical,
    Bernoulli,
    TorchOneHotCategorical,
    TorchBernoulli,
    Categorical,
):
    register_kl(RelaxedDistribution, _mass)(_refuse)
    register_kl(_mass, RelaxedDistribution)(_refuse)
