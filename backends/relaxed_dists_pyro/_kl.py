"""KL divergences, registered only where they are exact: within the discrete family."""

from typing import Any

from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.bernoulli import Bernoulli as TorchBernoulli
from torch.distributions.one_hot_categorical import OneHotCategorical as TorchOneHotCategorical

from relaxed_dists import _formulas

from ._discrete import Bernoulli, OneHotCategorical
from ._ops import compute_dtype, ops


def _kl_discrete(p: Any, q: Any) -> Tensor:
    dtype = compute_dtype(p.logits, q.logits)
    p_logits, q_logits = p.logits.to(dtype), q.logits.to(dtype)
    if isinstance(p, Bernoulli | TorchBernoulli):
        p_logits, q_logits = (
            _formulas.bernoulli_log_probs(ops, logits) for logits in (p_logits, q_logits)
        )
    return _formulas.categorical_kl(ops, p_logits, q_logits).to(p.logits.dtype)


for _ours, _theirs in ((OneHotCategorical, TorchOneHotCategorical), (Bernoulli, TorchBernoulli)):
    for _pair in ((_ours, _ours), (_ours, _theirs), (_theirs, _ours)):
        register_kl(*_pair)(_kl_discrete)
