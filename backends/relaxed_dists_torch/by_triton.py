"""Draws and densities by kernels in Triton, for float32 on a GPU.

``triton_kernels`` has the kernels, and the functions of this module launch them on tensors, each
with one launch. The functions have the names and the signatures of those in ``compiled`` and
``by_operations``. They are used only if the environment variable RELAXED_DISTS_KERNELS is "triton";
and for tensors on a CPU if TRITON_INTERPRET=1 is set too, which runs the kernels without a GPU.
"""

import importlib
import os
from typing import Any

import torch
from torch import Size, Tensor

from .compiled.load import BY_TRITON
from .layout import PLAIN, for_density, joint, new, rows, seed_and_noise, strides
from .seed import Seed

INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
# A program is Triton's word for a group of threads that run a kernel together.
BLOCK = 4096  # the most numbers of a row that a program holds at once
TILE = 512  # the numbers that a program holds at once if rows are short


def usable(x: Tensor) -> bool:
    """Whether the kernels can read a tensor."""
    device = x.device.type
    fits = device == "cuda" or (INTERPRET and device == "cpu")
    return fits and x.dtype is torch.float32 and type(x) in PLAIN


def chosen(x: Tensor) -> bool:
    """Whether the kernels are switched on and can read a tensor."""
    return BY_TRITON and usable(x)


def seeds(key: torch.Generator | None) -> bool:
    """Whether a generator can give a seed: without a wait for the GPU, and not in a CUDA graph.

    A CUDA graph would repeat the same seed at each run.
    """
    if key is not None and key.device.type != "cpu":
        return False
    return not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())


def _launch(name: str, programs: int, x: Tensor, *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on the device of x. Arguments of None, which it won't read, become x."""
    if not programs:
        return
    kernel = getattr(importlib.import_module("relaxed_dists_torch.triton_kernels"), name)
    given = [x if argument is None else argument for argument in arguments]
    if x.is_cuda:
        with torch.cuda.device(x.device):
            kernel[(programs,)](*given, **constants)
    else:
        kernel[(programs,)](*given, **constants)


def _by_rows(name: str, number: int, k: int, x: Tensor, *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on ``number`` rows of length k."""
    block = min(1 << (k - 1).bit_length(), BLOCK)
    tile = max(TILE // block, 1)
    constants |= {"ROWS": tile, "BLOCK": block}
    _launch(name, -(-number // tile), x, *arguments, number, k, **constants)


def _by_numbers(name: str, number: int, x: Tensor, *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on flat tensors of ``number`` elements."""
    constants |= {"BLOCK": 2 * TILE}
    _launch(name, -(-number // (2 * TILE)), x, *arguments, number, **constants)


def _noise(given: Seed, like: Tensor, one_hot: bool) -> Tensor:
    out = torch.empty(given.shape, dtype=torch.float32, device=like.device)
    k = given.shape[-1] if given.shape and one_hot else 1
    programs = -(-out.numel() // (2 * TILE))
    constants = {"BLOCK": 2 * TILE, "GUMBEL": one_hot}
    _launch("noise", programs, out, given.number, out, out.numel(), k, **constants)
    return out


def gumbel(seed: Seed, like: Tensor) -> Tensor:
    """Standard Gumbel noise from a seed."""
    return _noise(seed, like, True)


def logistic(seed: Seed, like: Tensor) -> Tensor:
    """Standard logistic noise from a seed."""
    return _noise(seed, like, False)


def draw(
    x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """A log value y = log_softmax((x + noise) / t), or None if not ``log``, and the value.

    The value is exp(y) or, if ``hard``, the one-hot argmax of x + noise.
    """
    k, batch = x.shape[-1], joint(noise.shape[:-1], x.shape[:-1], t.shape)
    shape = Size((*batch, k))
    (seed, drawn), x = seed_and_noise(noise, shape), rows(x, shape)
    t = rows(t, batch) if log or not hard else x  # the kernel does not read t then
    y, value = new(x, shape) if log else None, new(x, shape)
    parameters = x, x.numel() // k, t, t.numel()
    constants = {"GIVEN": drawn is not None, "HARD": hard, "LOG": log}
    _by_rows("draw", batch.numel(), k, x, seed, drawn, *parameters, y, value, **constants)
    return y, value


def draw_back(
    y: Tensor | None,
    p: Tensor | None,
    t: Tensor,
    by_y: Tensor | None,
    by_value: Tensor | None,
    by_t: bool,
    by_own: None = None,
) -> tuple[Tensor, Tensor | None]:
    """The gradients of a draw with respect to x and, if ``by_t``, with respect to t.

    ``by_own`` is None, since ``draw`` does not compute a density here.
    """
    shape = (y if p is None else p).shape  # type: ignore[union-attr]
    k, batch = shape[-1], shape[:-1]
    dx, t = t.new_empty(shape), rows(t, batch)
    dt = new(dx, batch) if by_t else None
    gradients: list[Any] = []
    for g in (by_y, by_value):
        gradients += strides(g, 1)
    constants = {"HAS_Y": y is not None, "HAS_P": p is not None, "BY_T": by_t}
    constants |= {"BY_Y": by_y is not None, "BY_V": by_value is not None}
    given = y, p, t, t.numel(), *gradients, dx, dt
    _by_rows("draw_back", batch.numel(), k, dx, *given, **constants)
    return dx, dt


def density(x: Tensor, t: Tensor, y: Tensor, simplex: bool) -> Tensor:
    """The log density of each row of log values y, in log space or, if ``simplex``, of exp(y)."""
    k, batch = x.shape[-1], joint(y.shape[:-1], x.shape[:-1], t.shape)
    _, x, t, y = for_density(x, t, y, batch, 1)
    out = x.new_empty(batch)
    parameters = x, x.numel() // k, t, t.numel()
    _by_rows("density", batch.numel(), k, x, *parameters, y, out, SIMPLEX=simplex)
    return out


def density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The wanted gradients with respect to x, t and y, from the gradient g of ``density``."""
    k, batch = x.shape[-1], g.shape
    shape, x, t, y = for_density(x, t, y, batch, 1)
    shapes = shape, batch, shape
    found = [new(x, s) if each else None for s, each in zip(shapes, wanted, strict=True)]
    by_out, row, _ = strides(g, 0)
    given = x, x.numel() // k, t, t.numel(), y, by_out, row, *found
    constants = dict(zip(("BY_X", "BY_T", "BY_Y"), wanted, strict=True), SIMPLEX=simplex)
    _by_rows("density_back", batch.numel(), k, x, *given, **constants)
    return found[0], found[1], found[2]


def mass(x: Tensor, value: Tensor) -> tuple[Tensor, None]:
    """The log mass sum_k value_k log p_k of each row; log p is None: ``mass_back`` computes it."""
    k, batch = x.shape[-1], joint(value.shape[:-1], x.shape[:-1])
    shape = Size((*batch, k))
    x, value, out = rows(x, shape), value.expand(shape).contiguous(), x.new_empty(batch)
    _by_rows("mass", batch.numel(), k, x, x, x.numel() // k, value, out)
    return out, None


def mass_back(
    x: Tensor, value: Tensor, g: Tensor, wanted: tuple[bool, bool], logs: None = None
) -> tuple[Tensor | None, Tensor | None]:
    """The wanted gradients with respect to x and the value, from the gradient g of ``mass``."""
    k, batch = x.shape[-1], g.shape
    shape = Size((*batch, k))
    x, value = rows(x, shape), value.expand(shape).contiguous()
    dx, dvalue = new(x, shape) if wanted[0] else None, new(x, shape) if wanted[1] else None
    by_out, row, _ = strides(g, 0)
    given = x, x.numel() // k, value, by_out, row, dx, dvalue
    _by_rows("mass_back", batch.numel(), k, x, *given, BY_X=wanted[0], BY_V=wanted[1])
    return dx, dvalue


def binary_draw(
    x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """A logit y = (x + noise) / t, or None if not ``log``, and the value.

    The value is sigmoid(y) or, if ``hard``, 1 where x + noise is positive and 0 elsewhere.
    """
    shape = joint(noise.shape, x.shape, t.shape)
    (seed, drawn), x = seed_and_noise(noise, shape), rows(x, shape)
    t = rows(t, shape) if log or not hard else x  # the kernel does not read t then
    y, value = new(x, shape) if log else None, new(x, shape)
    parameters = x, x.numel(), t, t.numel()
    constants = {"GIVEN": drawn is not None, "HARD": hard, "LOG": log}
    _by_numbers("binary_draw", shape.numel(), x, seed, drawn, *parameters, y, value, **constants)
    return y, value


def binary_draw_back(
    y: Tensor, t: Tensor, by_y: Tensor | None, by_value: Tensor | None, by_t: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradients of a binary draw with respect to x and, if ``by_t``, with respect to t."""
    dx, dt, t = torch.empty_like(y), new(y, y.shape) if by_t else None, rows(t, y.shape)
    gradients: list[Any] = []
    for g in (by_y, by_value):
        gradients += strides(g, 0)[:2]
    constants = {"BY_Y": by_y is not None, "BY_V": by_value is not None, "BY_T": by_t}
    given = y, t, t.numel(), *gradients, dx, dt
    _by_numbers("binary_draw_back", y.numel(), y, *given, **constants)
    return dx, dt


def binary_density(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
    """The log density of the logits y or, if ``unit``, of sigmoid(y) in (0, 1)."""
    shape, x, t, y = for_density(x, t, y, joint(y.shape, x.shape, t.shape), 0)
    out = x.new_empty(shape)
    parameters = x, x.numel(), t, t.numel()
    _by_numbers("binary_density", out.numel(), x, *parameters, y, out, UNIT=unit)
    return out


def binary_density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The wanted gradients with respect to x, t and y, from the gradient g of the density."""
    shape, x, t, y = for_density(x, t, y, g.shape, 0)
    found = [new(x, shape) if each else None for each in wanted]
    by_out, row, _ = strides(g, 0)
    given = x, x.numel(), t, t.numel(), y, by_out, row, *found
    constants = dict(zip(("BY_X", "BY_T", "BY_Y"), wanted, strict=True), UNIT=unit)
    _by_numbers("binary_density_back", shape.numel(), x, *given, **constants)
    return found[0], found[1], found[2]
