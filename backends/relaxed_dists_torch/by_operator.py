"""The hot formulas by operators, in code that torch.compile makes, for float32 on a CPU.

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
    """Whether operators have all that is asked of them here; they are defined at the first use.

    They have no rule for vmap and none for forward mode, and an exported program would not run
    where this library is not imported.
    """
    if KERNELS is None or exporting() or transformed() or forward_mode():
        return False
    importlib.import_module("relaxed_dists_torch.operators")
    return True


# torch.compile calls such a function while it traces, and takes the result as a constant.
_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]


def usable(*given: Any) -> bool:
    """Whether torch.compile is tracing, and the operators can take these tensors."""
    if not torch.compiler.is_dynamo_compiling() or not _ready():
        return False
    return all(compiled.usable(x) for x in given if isinstance(x, Tensor))


def takes(*tensors: Tensor | None) -> bool:
    """Whether the operators can take tensors of any class, as those in a gradient's trace."""
    fit = (x is None or (x.dtype is torch.float32 and x.is_cpu) for x in tensors)
    return _ready() and all(fit)


def seed() -> Tensor:
    """The number of a new seed, from torch's generator each time that the compiled code runs."""
    # torch.compile refuses random_, makes the numbers of torch.randint in its own way, and would
    # merge two calls of an operator of ours that have the same arguments.
    number: Tensor = torch.ops.aten.random(torch.empty((), dtype=torch.int64, device="cpu"))
    return number


def gumbel(seed: Seed, like: Any = None) -> Tensor:
    """Standard Gumbel noise."""
    found: Tensor = _ops.noise(seed.number, seed.shape, True)
    return found


def logistic(seed: Seed, like: Any = None) -> Tensor:
    """Standard logistic noise."""
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
    """y = log_softmax((x + noise) / t), and its exponential or the one-hot argmax of x + noise."""
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
    """The gradients of ``draw`` by x and, if ``by_t``, by t."""
    dx, dt = _ops.draw_back(y, p, t, by_y, by_value, by_t, by_own)
    return dx, dt if by_t else None


def density(x: Tensor, t: Tensor, y: Tensor, simplex: bool) -> Tensor:
    """The log density of log values y, in log space or on the simplex, one a row."""
    found: Tensor = _ops.density(x, t, y, simplex)
    return found


def density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of ``density`` by x, t and y, those that are wanted."""
    return _wanted(_ops.density_back(x, t, y, g, simplex, wanted), wanted)


def _wanted(found: tuple[Tensor, ...], wanted: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return (*(x if want else None for x, want in zip(found, wanted, strict=True)),)


def mass(x: Tensor, value: Tensor) -> tuple[Tensor, None]:
    """sum_k value_k log p_k, one a row; and no logs, which the way back computes again."""
    return _ops.mass(x, value), None


def mass_back(
    x: Tensor, value: Tensor, g: Tensor, wanted: tuple[bool, bool], logs: None = None
) -> tuple[Tensor | None, ...]:
    """The gradients of ``mass`` by x and by the value."""
    return _wanted(_ops.mass_back(x, value, g, wanted), wanted)


def binary_draw(
    x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """y = (x + noise) / t, and its sigmoid, or 1 where x + noise is positive."""
    seed, drawn = _seed_and_noise(noise)
    shape = joint(noise.shape, x.shape, t.shape)
    y, value = _ops.binary_draw(x, drawn, t, hard, log, seed, shape)
    return _alias(y) if log else None, _alias(value)


def binary_draw_back(
    y: Tensor, t: Tensor, by_y: Tensor | None, by_value: Tensor | None, by_t: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradients of ``binary_draw`` by x and, if ``by_t``, by t."""
    dx, dt = _ops.binary_draw_back(y, t, by_y, by_value, by_t)
    return dx, dt if by_t else None


def binary_density(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
    """The log density of logits y, of the logit or on (0, 1)."""
    found: Tensor = _ops.binary_density(x, t, y, unit)
    return found


def binary_density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of ``binary_density`` by x, t and y, those that are wanted."""
    return _wanted(_ops.binary_density_back(x, t, y, g, unit, wanted), wanted)
