"""Draws and densities by operators, in code that torch.compile makes, for float32 on a CPU.

The functions have the names and the signatures of those in ``compiled``, whose kernels the
operators call.
"""

import importlib
from typing import Any

import torch
from torch import Tensor

from . import compiled
from .compiled.load import KERNELS
from .layout import joint
from .seed import Seed
from .state import exporting, forward_mode, transformed

_ops: Any = torch.ops.relaxed_dists


def _ready() -> bool:
    """Whether the operators can be used here; the first call defines them.

    They have no rule for vmap, and an exported program would not run where this library is not
    imported.
    """
    if KERNELS is None or exporting() or transformed():
        return False
    importlib.import_module("relaxed_dists_torch.operators")
    return True


# torch.compile calls such a function while it traces, and takes the result as a constant.
_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]


def usable(*given: Any) -> bool:
    """Whether torch.compile is tracing, and the operators can take these tensors."""
    # The operators have no rule for forward mode. This is asked here, not in _ready, so that
    # torch.compile traces the question, and compiles anew where the answer changes.
    if not torch.compiler.is_dynamo_compiling() or forward_mode() or not _ready():
        return False
    return all(compiled.usable(x) for x in given if isinstance(x, Tensor))


def takes(*tensors: Tensor | None) -> bool:
    """Whether the operators can take tensors of any class, such as those that trace a gradient."""
    fit = (x is None or (x.dtype is torch.float32 and x.is_cpu) for x in tensors)
    return _ready() and all(fit)


def seed() -> Tensor:
    """A new seed, drawn from torch's generator each time that the compiled code runs."""
    # torch.compile refuses random_, and makes other numbers than eager code for torch.randint. It
    # would merge two calls of one of this library's operators that have the same arguments.
    number: Tensor = torch.ops.aten.random(torch.empty((), dtype=torch.int64, device="cpu"))
    return number


def gumbel(seed: Seed, like: Any = None) -> Tensor:
    """Standard Gumbel noise from a seed."""
    found: Tensor = _ops.noise(seed.number, seed.shape, True)
    return found


def logistic(seed: Seed, like: Any = None) -> Tensor:
    """Standard logistic noise from a seed."""
    found: Tensor = _ops.noise(seed.number, seed.shape, False)
    return found


# A value gets attributes, such as the sample behind it. torch.compile allows them on the result of
# an operator with one result, but not on one of several. An alias costs nothing in compiled code.
_alias: Any = torch.ops.aten.alias


def _seed_and_noise(noise: Tensor | Seed) -> tuple[Any, Any]:
    return (noise.number, None) if isinstance(noise, Seed) else (None, noise)


def draw(
    x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True, own: bool = False
) -> tuple[Any, ...]:
    """A log value y = log_softmax((x + noise) / t), or None if not ``log``, and the value.

    The value is exp(y) or, if ``hard``, the one-hot argmax of x + noise. If ``own``, a third result
    is the log density of the draw on the simplex.
    """
    shape = (*joint(noise.shape[:-1], x.shape[:-1], t.shape), x.shape[-1])
    seed, drawn = _seed_and_noise(noise)
    y, value, density = _ops.draw(x, drawn, t, hard, log, own, seed, shape)
    y, value = _alias(y) if log else None, _alias(value)
    return (y, value, density) if own else (y, value)


def draw_back(
    y: Tensor | None,
    p: Tensor | None,
    t: Tensor,
    by_y: Tensor | None,
    by_value: Tensor | None,
    by_t: bool,
    by_own: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The gradients of a draw with respect to x and, if ``by_t``, with respect to t."""
    dx, dt = _ops.draw_back(y, p, t, by_y, by_value, by_t, by_own)
    return dx, dt if by_t else None


def density(x: Tensor, t: Tensor, y: Tensor, simplex: bool) -> Tensor:
    """The log density of each row of log values y, in log space or, if ``simplex``, of exp(y)."""
    found: Tensor = _ops.density(x, t, y, simplex)
    return found


def density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    """The wanted gradients with respect to x, t and y, from the gradient g of ``density``."""
    return _wanted(_ops.density_back(x, t, y, g, simplex, wanted), wanted)


def _wanted(found: tuple[Tensor, ...], wanted: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return (*(x if want else None for x, want in zip(found, wanted, strict=True)),)


def mass(x: Tensor, value: Tensor) -> tuple[Tensor, None]:
    """The log mass sum_k value_k log p_k of each row; log p is None: ``mass_back`` computes it."""
    return _ops.mass(x, value), None


def mass_back(
    x: Tensor, value: Tensor, g: Tensor, wanted: tuple[bool, bool], logs: None = None
) -> tuple[Tensor | None, ...]:
    """The wanted gradients with respect to x and the value, from the gradient g of ``mass``."""
    return _wanted(_ops.mass_back(x, value, g, wanted), wanted)


def binary_draw(
    x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """A logit y = (x + noise) / t, or None if not ``log``, and the value.

    The value is sigmoid(y) or, if ``hard``, 1 where x + noise is positive and 0 elsewhere.
    """
    seed, drawn = _seed_and_noise(noise)
    shape = joint(noise.shape, x.shape, t.shape)
    y, value = _ops.binary_draw(x, drawn, t, hard, log, seed, shape)
    return _alias(y) if log else None, _alias(value)


def binary_draw_back(
    y: Tensor, t: Tensor, by_y: Tensor | None, by_value: Tensor | None, by_t: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradients of a binary draw with respect to x and, if ``by_t``, with respect to t."""
    dx, dt = _ops.binary_draw_back(y, t, by_y, by_value, by_t)
    return dx, dt if by_t else None


def binary_density(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
    """The log density of the logits y or, if ``unit``, of sigmoid(y) in (0, 1)."""
    found: Tensor = _ops.binary_density(x, t, y, unit)
    return found


def binary_density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    """The wanted gradients with respect to x, t and y, from the gradient g of the density."""
    return _wanted(_ops.binary_density_back(x, t, y, g, unit, wanted), wanted)
