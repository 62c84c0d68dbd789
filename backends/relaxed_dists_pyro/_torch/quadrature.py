"""Moments, entropies and KL divergences by quadrature, at the temperatures as they are shared."""

from torch import Tensor

from relaxed_dists._distributions import divergences, quadrature
from relaxed_dists._distributions.log_moments import exp_concrete_moments

from .ops import ops
from .state import forward_mode, known


def _shared(temperature: Tensor) -> Tensor:
    """One temperature for all rows as a number: then one table serves all."""
    return temperature.reshape(()) if temperature.numel() == 1 else temperature


def moments(rows: bool, logits: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance on the simplex, or on (0, 1)."""
    formula = quadrature.concrete_moments if rows else quadrature.binary_concrete_moments
    return formula(ops, logits, _shared(temperature))


def log_moments(logits: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance in log space."""
    return exp_concrete_moments(ops, logits, _shared(temperature))


def entropy(rows: bool, logits: Tensor, temperature: Tensor) -> Tensor:
    """The entropy on the simplex, or on (0, 1)."""
    formula = divergences.concrete_entropy if rows else divergences.binary_concrete_entropy
    return formula(ops, logits, _shared(temperature))


def kl(rows: bool, p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """KL(p, q) from logits and temperature of each."""
    (logits, temperature), (other, other_temperature) = p, q
    if _equal(temperature, other_temperature):
        equal = divergences.concrete_kl_at_one_temperature
        binary = divergences.logit_concrete_kl_at_one_temperature
        return (equal if rows else binary)(ops, logits, other)
    formula = divergences.concrete_kl if rows else divergences.logit_concrete_kl
    temperatures = _shared(temperature), _shared(other_temperature)
    return formula(ops, logits, temperatures[0], other, temperatures[1])


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether the temperatures are known to be equal, and no derivative by them is asked for.

    In forward mode any tensor may have a tangent, which a level of torch.func's hides.
    """
    if a is b:
        return True
    if a.requires_grad or b.requires_grad or forward_mode():
        return False
    same = a == b
    return known(same) and bool(same.all())
