"""KL divergences, registered only where they are exact: between discrete distributions, and
between relaxed distributions on the same space."""

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.bernoulli import Bernoulli as TorchBernoulli
from torch.distributions.categorical import Categorical
from torch.distributions.one_hot_categorical import OneHotCategorical as TorchOneHotCategorical

from relaxed_dists import _errors
from relaxed_dists._distributions.divergences import check_shapes
from relaxed_dists._distributions.family import Parameters
from relaxed_dists_torch.ops import compute_dtype, ops

from .._adapter import LogitsDistribution, RelaxedDistribution
from .discrete import Bernoulli, OneHotCategorical
from .sites import discrete


def _kl(p: Any, q: Any) -> Tensor:
    """The KL divergence of two distributions on the same space; one may be torch's own."""
    # discrete() keeps the probs or logits that the user gave to torch's distribution, since
    # converting probs of exactly 0 or 1 to logits would change them.
    p, q = (x if isinstance(x, LogitsDistribution) else discrete(x) for x in (p, q))
    if p._family.scored_as is not q._family.scored_as:
        raise _errors.no_common_space(p, q)
    if not hasattr(p._family, "kl"):
        raise _errors.no_known_kl(p, q)
    check_shapes(p, q)
    dtype = compute_dtype(p.logits, q.logits)
    first, second = (_cast(x._for_formulas(), dtype) for x in (p, q))
    return p._family.kl(ops, q._family, first, second)


def _cast(p: Parameters, dtype: torch.dtype) -> Parameters:
    temperature = None if p.temperature is None else p.temperature.to(dtype)
    return Parameters(p.logits.to(dtype), temperature)


for _ours, _builtin in ((OneHotCategorical, TorchOneHotCategorical), (Bernoulli, TorchBernoulli)):
    for _pair in ((_ours, _ours), (_ours, _builtin), (_builtin, _ours)):
        register_kl(*_pair)(_kl)


register_kl(RelaxedDistribution, RelaxedDistribution)(_kl)


# The error is a ValueError, since after a NotImplementedError TraceMeanField_ELBO would estimate
# the divergence from samples.


def _refuse(p: Any, q: Any) -> NoReturn:
    raise _errors.no_kl(p, q)


for _mass in (
    OneHotCategorical,
    Bernoulli,
    TorchOneHotCategorical,
    TorchBernoulli,
    Categorical,
):
    register_kl(RelaxedDistribution, _mass)(_refuse)
    register_kl(_mass, RelaxedDistribution)(_refuse)
