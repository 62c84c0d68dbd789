"""torch's kernels for the hot formulas: few passes over memory, with the gradients written out.

Each kernel has the name and signature of its formula. It computes the case of finite numbers, and
leaves masked ones to the formula. Where torch compiles, traces or differentiates in forward mode,
the formulas are computed as they stand.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from relaxed_dists._distributions import bernoulli, formulas, one_hot

from .ops import _TorchOps, ops
from .softmax import EVERYTHING, LogisticTerms, Own, Softmaxes, SumLogSoftmax
from .state import eager, known


def all_finite(x: Tensor) -> bool:
    """Whether all numbers are known to be smaller than HUGE; False where looking isn't cheap."""
    # On a GPU, reading the answer would force a synchronisation. The answer isn't kept for the next
    # call, since a write through .data or NumPy would go unnoticed.
    if not known(x) or x.device.type != "cpu" or not x.numel():
        return False
    low, high = torch.aminmax(x.detach())
    return low.item() > -formulas.HUGE and high.item() < formulas.HUGE


def _kernel(formula: formulas.hot) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(way: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(way)
        def call(ops: Any, *given: Any) -> Any:
            return (way if eager() else formula.formula)(ops, *given)

        ops.kernels[formula.name] = call
        return call

    return register


@_kernel(formulas.hard_argmax)
def hard_argmax(ops: Any, logits: Tensor, noise: Tensor | float = 0.0) -> Any:
    if all_finite(logits):
        return ops.one_hot_argmax(logits + noise)
    return formulas.hard_argmax.formula(ops, logits, noise)


@_kernel(formulas.softmaxes)
def softmaxes(ops: Any, scores: Tensor, temperature: Tensor) -> Any:
    return Softmaxes.apply(scores, 0.0, temperature, False)


def _concrete(logits: Tensor, temperature: Tensor, gumbel: Tensor, hard: bool) -> Any:
    if all_finite(logits):
        log_value, value = Softmaxes.apply(logits, gumbel, temperature[..., None], hard)
        log_value._all_finite = True  # own_concrete_log_prob reads this
        return log_value, value
    unmasked, finite = formulas.finite_or(ops, logits, formulas.FAR)
    log_value, value = Softmaxes.apply(finite, gumbel, temperature[..., None], hard)
    return torch.where(unmasked, log_value, -math.inf), torch.where(unmasked, value, 0.0)


@_kernel(one_hot.concrete)
def concrete(ops: Any, logits: Tensor, temperature: Tensor, gumbel: Tensor) -> Any:
    return _concrete(logits, temperature, gumbel, False)


@_kernel(one_hot.straight_through_concrete)
def straight_through_concrete(ops: Any, logits: Tensor, temperature: Tensor, gumbel: Tensor) -> Any:
    return _concrete(logits, temperature, gumbel, True)


def _normaliser(logits: Tensor, temperature: Tensor) -> Tensor:
    k = logits.shape[-1]
    return (k - 1) * torch.log(temperature) + math.lgamma(k)


def _one_hot_density(logits: Tensor, temperature: Tensor, y: Tensor, simplex: bool) -> Tensor:
    terms = SumLogSoftmax.apply(logits, temperature[..., None], y, simplex, False)
    return terms + _normaliser(logits, temperature)


def _binary_density(logits: Tensor, temperature: Tensor, y: Tensor, unit: bool) -> Tensor:
    return torch.log(temperature) + LogisticTerms.apply(logits, temperature, y, unit)


def _register_density(formula: formulas.hot, density: Callable[..., Any], bounded: bool) -> None:
    """Register the density of finite numbers; bounded values are on the simplex or in (0, 1)."""

    @_kernel(formula)
    def call(ops: Any, logits: Tensor, temperature: Tensor, y: Tensor) -> Any:
        if all_finite(logits) and all_finite(y):
            return density(logits, temperature, y, bounded)
        return formula.formula(ops, logits, temperature, y)


_register_density(one_hot.exp_concrete_log_prob, _one_hot_density, False)
_register_density(one_hot.concrete_log_prob, _one_hot_density, True)
_register_density(bernoulli.logit_concrete_log_prob, _binary_density, False)
_register_density(bernoulli.binary_concrete_log_prob, _binary_density, True)


class _Asking(_TorchOps):
    """Operations whose stop_gradient lets the gradient by one value pass, if it is asked for."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self._value = value

    def stop_gradient(self, x: Tensor) -> Any:
        return Own.apply(x, self._value, EVERYTHING)


@_kernel(one_hot.own_concrete_log_prob)
def own_concrete_log_prob(ops: Any, logits: Tensor, temperature: Tensor, y: Tensor) -> Any:
    value = getattr(y, "_link", None)
    if getattr(y, "_all_finite", False):  # as the logits were when it was drawn from them
        link = () if value is None else (value, EVERYTHING)
        terms = SumLogSoftmax.apply(logits, temperature[..., None], y, True, True, *link)
        return terms + _normaliser(logits, temperature)
    ops = ops if value is None else _Asking(value)
    return one_hot.own_concrete_log_prob.formula(ops, logits, temperature, y)


@_kernel(bernoulli.logit_concrete)
def logit_concrete(ops: Any, logits: Tensor, temperature: Tensor, logistic: Tensor) -> Any:
    if all_finite(logits):
        return (logits + logistic) / temperature
    return bernoulli.logit_concrete.formula(ops, logits, temperature, logistic)


@_kernel(bernoulli.binary_concrete)
def binary_concrete(ops: Any, logits: Tensor, temperature: Tensor, logistic: Tensor) -> Any:
    y = bernoulli.logit_concrete(ops, logits, temperature, logistic)
    # A copy, since users may write to a draw, and sigmoid's backward pass needs its own result.
    return y, torch.sigmoid(y).clone()
