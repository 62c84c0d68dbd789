"""Kernels for moments, entropies and KL divergences, faster if all rows share one temperature.

A kernel is a function that is called in place of the formula of the same name.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from relaxed_dists._distributions import divergences, log_moments, quadrature
from relaxed_dists._distributions.formulas import hot

from .ops import ops
from .state import forward_mode, known


def _shared(temperature: Tensor) -> Tensor:
    """The temperature, as a scalar if it is one number: all rows then share one interpolation."""
    return temperature.reshape(()) if temperature.numel() == 1 else temperature


def _register(formula: hot) -> None:
    def call(ops: Any, logits: Tensor, temperature: Tensor) -> Any:
        return formula.formula(ops, logits, _shared(temperature))

    ops.kernels[formula.name] = call


def _register_kl(formula: hot, at_one_temperature: Callable[..., Any]) -> None:
    def call(ops: Any, logits: Tensor, t: Tensor, other: Tensor, other_t: Tensor) -> Any:
        if _equal(t, other_t):
            return at_one_temperature(ops, logits, other)
        return formula.formula(ops, logits, _shared(t), other, _shared(other_t))

    ops.kernels[formula.name] = call


for _formula in (
    quadrature.concrete_moments,
    quadrature.binary_concrete_moments,
    log_moments.exp_concrete_moments,
    divergences.concrete_entropy,
    divergences.binary_concrete_entropy,
):
    _register(_formula)
_register_kl(divergences.concrete_kl, divergences.concrete_kl_at_one_temperature)
_register_kl(divergences.logit_concrete_kl, divergences.logit_concrete_kl_at_one_temperature)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether the temperatures are known to be equal, and need no derivative.

    In forward mode two different tensors never count as equal: either may have a tangent that is
    hidden inside a level of torch.func.
    """
    if a is b:
        return True
    if a.requires_grad or b.requires_grad or forward_mode():
        return False
    same = a == b
    return known(same) and bool(same.all())
