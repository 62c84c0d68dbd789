"""torch's kernels for the formulas of draws and densities, with their gradients written out.

A kernel is called in place of the formula of the same name and signature, and treats masked and
infinite logits in the same way. It calls compiled code, or else few operations of torch. Under
torch.compile it calls operators, where they can be used. Elsewhere where torch traces, and in
forward mode, the formulas are computed as they stand.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from relaxed_dists._distributions import bernoulli, discrete, formulas, one_hot

from . import by_operator, by_triton, compiled
from .autograd import (
    EVERYTHING,
    BinaryDensity,
    BinaryDraw,
    BinaryMass,
    Density,
    Draw,
    LinkedDensity,
    Mass,
)
from .ops import ops
from .seed import Seed, seed
from .state import compiling, eager, known, traced, transformed


def look(logits: Tensor, one_hot: bool) -> int | None:
    """0 if all logits are finite, 1 if some are -inf, and 2 if some are not allowed.

    The result is None if finding out isn't cheap.
    """
    # On a GPU, reading the answer would force a synchronisation. The answer isn't kept for the next
    # call, since a write to the logits through .data or NumPy would go unnoticed.
    if traced() or transformed() or not logits.is_cpu or not logits.numel():
        return None
    if compiled.usable(logits):
        return compiled.look(logits, one_hot)
    if not known(logits):
        return None
    low, high = torch.aminmax(logits.detach())
    return 0 if low.item() > -formulas.HUGE and high.item() < formulas.HUGE else None


def _kernel(formula: formulas.hot) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(kernel: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(kernel)
        def call(ops: Any, *given: Any) -> Any:
            if eager() or by_operator.usable(*given):
                return kernel(*given)
            return formula.formula(ops, *given)

        ops.kernels[formula.name] = call
        return call

    return register


def _needs_graph(logits: Tensor, temperature: Tensor, noise: Any) -> bool:
    if not torch.is_grad_enabled():
        return False
    needs = logits.requires_grad or temperature.requires_grad
    return needs or (isinstance(noise, Tensor) and noise.requires_grad)


def _apply(function: Any, *given: Any) -> Any:
    """The value of an autograd function. Under torch.compile an operator has the gradient."""
    return (function.forward if compiling() else function.apply)(*given)


def _as_tensor(x: Any, like: Tensor) -> Tensor:
    return x if isinstance(x, Tensor) else torch.as_tensor(x, dtype=like.dtype, device=like.device)


@functools.lru_cache(64)
def _number(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float32, device="cpu")


def gumbel_softmax(logits: Any, tau: Any, hard: bool, key: torch.Generator | None) -> Tensor | None:
    """A draw in the usual case of valid logits and one valid number tau; None in other cases.

    For one row of logits, checks that serve all cases would take three times as long as the draw.
    """
    usual = isinstance(tau, (int, float)) and formulas.COLDEST <= tau <= formulas.HOTTEST
    usual = usual and (key is None or isinstance(key, torch.Generator))
    if not usual or not isinstance(logits, Tensor) or not compiled.usable(logits):
        return None
    if not logits.dim() or not logits.numel() or transformed() or not eager():
        return None
    if compiled.look(logits, True) == 2:
        return None
    return _drawn(logits, _number(float(tau)), seed(logits.shape, key, compiled), hard, log=False)[
        1
    ]


def _drawn(logits: Tensor, temperature: Tensor, noise: Any, hard: bool, log: bool = True) -> Any:
    """The log value, which may be None if not ``log``, and the value of a draw."""
    if not _needs_graph(logits, temperature, noise):
        return Draw.forward(logits, noise, temperature, hard, log)
    own = log and isinstance(noise, Seed) and noise.kernels is not by_triton
    log = log or hard or temperature.requires_grad
    y, value, *density = _apply(Draw, logits, noise, temperature, hard, log, own)
    if own:
        y._own = density[0]  # own_concrete_log_prob reads this
    return y, value


@_kernel(one_hot.concrete)
def concrete(logits: Tensor, temperature: Tensor, gumbel: Any) -> Any:
    return _drawn(logits, temperature, gumbel, False)


@_kernel(one_hot.straight_through_concrete)
def straight_through_concrete(logits: Tensor, temperature: Tensor, gumbel: Any) -> Any:
    return _drawn(logits, temperature, gumbel, True)


def _binary_drawn(logits: Tensor, temperature: Tensor, noise: Any, hard: bool) -> Any:
    graph = _needs_graph(logits, temperature, noise)
    if graph:
        return _apply(BinaryDraw, logits, noise, temperature, hard)
    return BinaryDraw.forward(logits, noise, temperature, hard)


@_kernel(bernoulli.binary_concrete)
def binary_concrete(logits: Tensor, temperature: Tensor, logistic: Any) -> Any:
    return _binary_drawn(logits, temperature, logistic, False)


@_kernel(bernoulli.straight_through_binary_concrete)
def straight_through_binary_concrete(logits: Tensor, temperature: Tensor, logistic: Any) -> Any:
    return _binary_drawn(logits, temperature, logistic, True)


@_kernel(bernoulli.logit_concrete)
def logit_concrete(logits: Tensor, temperature: Tensor, logistic: Any) -> Any:
    return _binary_drawn(logits, temperature, logistic, False)[0]


@_kernel(one_hot.concrete_value)
def concrete_value(logits: Tensor, temperature: Any, gumbel: Any, hard: bool) -> Any:
    return _drawn(logits, _as_tensor(temperature, logits), gumbel, hard, log=False)[1]


@_kernel(bernoulli.binary_concrete_value)
def binary_concrete_value(logits: Tensor, temperature: Any, logistic: Any, hard: bool) -> Any:
    return _binary_drawn(logits, _as_tensor(temperature, logits), logistic, hard)[1]


@_kernel(formulas.hard_argmax)
def hard_argmax(logits: Tensor, noise: Any = None) -> Any:
    noise = torch.zeros_like(logits) if noise is None else noise
    return _hard(Draw, logits, noise)


@_kernel(discrete.hard_sign)
def hard_sign(logits: Tensor, noise: Any) -> Any:
    return _hard(BinaryDraw, logits, noise)


def _hard(draw: Any, logits: Tensor, noise: Tensor | Seed) -> Any:
    noise = noise if isinstance(noise, Seed) else noise.detach()
    return draw.forward(logits.detach(), noise, _ONE, True, False)[1]


_ONE = torch.ones((), device="cpu")  # given as the temperature where no temperature is used


def _register_density(formula: formulas.hot, density: Any, bounded: bool) -> None:
    """Register the kernel of a density, on the simplex or (0, 1) if ``bounded``."""
    more = (bounded, False) if density is Density else (bounded,)

    @_kernel(formula)
    def call(logits: Tensor, temperature: Tensor, y: Tensor) -> Any:
        return _apply(density, logits, temperature, y, *more)


_register_density(one_hot.exp_concrete_log_prob, Density, False)
_register_density(one_hot.concrete_log_prob, Density, True)
_register_density(bernoulli.logit_concrete_log_prob, BinaryDensity, False)
_register_density(bernoulli.binary_concrete_log_prob, BinaryDensity, True)


@_kernel(one_hot.own_concrete_log_prob)
def own_concrete_log_prob(logits: Tensor, temperature: Tensor, y: Tensor, value: Any = None) -> Any:
    density = getattr(y, "_own", None)
    if density is None:
        density = _apply(Density, logits, temperature, y, True, True)
    if value is None or not value.requires_grad or compiling():
        return density.clone()  # a copy, since the caller may write to the result
    return LinkedDensity.apply(density, y, value, EVERYTHING, logits, temperature)


@_kernel(discrete.categorical_log_prob)
def categorical_log_prob(logits: Tensor, value: Tensor) -> Any:
    return _apply(Mass, logits, value)[0]


# Most logits are finite, and on a CPU it costs little to see that they are. Then few operations are
# enough, and the formulas are for the rest.


@_kernel(discrete.bernoulli_log_prob)
def bernoulli_log_prob(logits: Tensor, value: Tensor) -> Any:
    if look(logits, False) != 0:
        return discrete.bernoulli_log_prob.formula(ops, logits, value)
    return BinaryMass.apply(logits, value)


@_kernel(discrete.categorical_kl)
def categorical_kl(logits: Tensor, other: Tensor) -> Any:
    if look(logits, True) != 0 or look(other, True) != 0:
        return discrete.categorical_kl.formula(ops, logits, other)
    if logits.shape == other.shape:  # a plate expands a prior, whose rows are then all the same
        for axis, step in enumerate(other.stride()[:-1]):
            other = other if step else other[(slice(None),) * axis + (slice(1),)]
    logs = logits.log_softmax(-1)
    return (logs.exp() * (logs - other.log_softmax(-1))).sum(-1)


@_kernel(discrete.bernoulli_kl)
def bernoulli_kl(logits: Tensor, other: Tensor) -> Any:
    if look(logits, False) != 0 or look(other, False) != 0:
        return discrete.bernoulli_kl.formula(ops, logits, other)
    one = logits > 0  # the likelier value, as in the formula
    p, q = torch.where(one, logits, -logits), torch.where(one, other, -other)
    return torch.addcmul(logsigmoid(p) - logsigmoid(q), (-p).sigmoid(), q - p)
