"""Kernels for moments, entropies and KL divergences, faster if all rows share one temperature.

A kernel is a function that is called in place of the formula of the same name.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from relaxed_dists._distributions import divergences, log_moments, quadrature
from relaxed_dists._distributions.formulas import hot

from .ops import ops
from .state import compiling, forward_mode, known


def _shared(temperature: Tensor) -> Tensor:
    """The temperature, as a scalar if it is one number: all rows then share one table."""
    return temperature.reshape(()) if temperature.numel() == 1 else temperature


def _by_chunks(
    way: Callable[..., Any], logits: tuple[Tensor, ...], temperatures: tuple[Tensor, ...], k: int
) -> Any:
    """way(*logits, *temperatures), in chunks of rows.

    Args:
        way: A function that returns a tensor, or several, with the batch's shape first.
        logits: Logits of k categories on the last axis; numbers, if k is 0.
        temperatures: As many temperatures, perhaps none, single or of the batch's shape.
        k: The number of categories.
    """
    temperatures = tuple(map(_shared, temperatures))
    if compiling():  # the comparison below would make the number of rows a constant
        return way(*logits, *temperatures)
    event: tuple[int, ...] = (k,) if k else ()
    batch = torch.broadcast_shapes(
        *(x.shape[: x.dim() - len(event)] for x in logits), *(t.shape for t in temperatures)
    )
    rows, shared = batch.numel(), all(not t.dim() for t in temperatures)
    size = quadrature.rows_of_chunk(rows, k or 2, shared)
    if rows <= size:
        return way(*logits, *temperatures)
    parts = [x.expand(*batch, *event).reshape(rows, *event).split(size) for x in logits]
    for t in temperatures:
        each = t.expand(batch).reshape(rows).split(size) if t.dim() else [t] * len(parts[0])
        parts.append(tuple(map(_shared, each)))
    found = [way(*some) for some in zip(*parts, strict=True)]
    if isinstance(found[0], Tensor):
        return torch.cat(found).reshape(batch + found[0].shape[1:])
    return tuple(
        torch.cat(each).reshape(batch + each[0].shape[1:]) for each in zip(*found, strict=True)
    )


def _register(formula: hot, binary: bool) -> None:
    def call(ops: Any, logits: Tensor, temperature: Tensor) -> Any:
        way = functools.partial(formula.formula, ops)
        return _by_chunks(way, (logits,), (temperature,), 0 if binary else logits.shape[-1])

    ops.kernels[formula.name] = call


def _register_kl(formula: hot, at_one_temperature: Callable[..., Any], binary: bool) -> None:
    def call(ops: Any, logits: Tensor, t: Tensor, other: Tensor, other_t: Tensor) -> Any:
        def general(logits: Tensor, other: Tensor, t: Tensor, other_t: Tensor) -> Any:
            return formula.formula(ops, logits, t, other, other_t)

        k = 0 if binary else logits.shape[-1]
        if not _equal(t, other_t):
            return _by_chunks(general, (logits, other), (t, other_t), k)
        if binary:  # a closed form without an integral
            return at_one_temperature(ops, logits, other)
        return _by_chunks(functools.partial(at_one_temperature, ops), (logits, other), (), k)

    ops.kernels[formula.name] = call


_register(quadrature.concrete_moments, False)
_register(quadrature.binary_concrete_moments, True)
_register(log_moments.exp_concrete_moments, False)
_register(divergences.concrete_entropy, False)
_register(divergences.binary_concrete_entropy, True)
_register_kl(divergences.concrete_kl, divergences.concrete_kl_at_one_temperature, False)
_register_kl(divergences.logit_concrete_kl, divergences.logit_concrete_kl_at_one_temperature, True)


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
