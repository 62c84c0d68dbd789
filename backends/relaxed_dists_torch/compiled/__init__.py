"""Draws and densities by kernels in C, for float32 on a CPU.

``load`` loads the kernels, and the functions of this module call them on tensors. The functions
have the names and the signatures of those in ``by_operations``, which compute the same by torch's
operations, for any dtype and device.
"""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Size, Tensor

from ..layout import PLAIN, for_density, joint, new, rows, seed_and_noise, strides
from ..seed import Seed
from .load import KERNELS

BLOCK = 2048  # the numbers of a block, as in kernels.c: each block has its own random generators
SHARE = 2**16  # the fewest numbers for a thread: waking it takes as long as computing so many

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None  # a forked process has none of its parent's threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def usable(x: Tensor) -> bool:
    """Whether the kernels can read a tensor."""
    return KERNELS is not None and x.dtype is torch.float32 and x.is_cpu and type(x) in PLAIN


def _run(name: str, number: int, width: int, *arguments: int) -> None:
    """Call a kernel on ``number`` rows, in parts for as many threads as torch would use."""
    assert KERNELS is not None
    kernel, size = KERNELS[name], number * width
    threads = min(torch.get_num_threads(), size // SHARE) if size >= 2 * SHARE else 1
    if threads < 2:
        kernel(*arguments, 0, number)
        return
    global _pool
    if _pool is None or _pool._max_workers < threads:
        _pool = ThreadPoolExecutor(threads)
    block = max(BLOCK // max(width, 1), 1)  # rows in a block
    step = -(-number // (threads * block)) * block
    starts = range(0, number, step)
    parts = [_pool.submit(kernel, *arguments, i, min(i + step, number)) for i in starts]
    wait(parts)
    for part in parts:
        part.result()


def _pointer(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def look(x: Tensor, one_hot: bool) -> int:
    """0 if all logits are finite, 1 if some are -inf, and 2 if some are not allowed."""
    assert KERNELS is not None
    x = x.contiguous()
    return KERNELS["look"](x.data_ptr(), x.numel(), x.shape[-1] if one_hot else 0)


def gumbel(seed: Seed, like: Any = None) -> Tensor:
    """Standard Gumbel noise from a seed."""
    out = torch.empty(seed.shape, dtype=torch.float32, device="cpu")
    k = seed.shape[-1] if seed.shape else 1
    _run("noise", out.numel() // max(k, 1), k, seed.number, out.data_ptr(), k)
    return out


def logistic(seed: Seed, like: Any = None) -> Tensor:
    """Standard logistic noise from a seed."""
    out = torch.empty(seed.shape, dtype=torch.float32, device="cpu")
    _run("logistic", out.numel(), 1, seed.number, out.data_ptr())
    return out


def draw(
    x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True, own: bool = False
) -> tuple[Any, ...]:
    """A log value y = log_softmax((x + noise) / t), and the value.

    Args:
        x: Logits of shape ``(..., K)``; -inf masks a category.
        noise: Gumbel noise of that shape, or a seed from which the kernel makes the noise.
        t: The temperatures, one for each row.
        hard: Whether the value is the one-hot argmax of x + noise; otherwise it is exp(y).
        log: Whether y is wanted; if not, it is None.
        own: Whether the log density of the draw on the simplex is wanted too, as a third result.
            The noise must then be a seed, and y be wanted.
    """
    k, shape = x.shape[-1], x.shape
    if noise.shape != shape or t.dim():
        batch = joint(noise.shape[:-1], shape[:-1], t.shape)
        shape = Size((*batch, k))
        t = rows(t, batch)
    (seed, drawn), x = seed_and_noise(noise, shape), rows(x, shape)
    value = new(x, shape)
    y = torch.empty_like(value) if log else None
    density = x.new_empty(shape[:-1]) if own else None
    parameters = x.data_ptr(), x.numel() // k, t.data_ptr(), t.numel()
    results = _pointer(y), value.data_ptr(), _pointer(density), hard
    _run("draw", shape.numel() // k, k, seed, _pointer(drawn), *parameters, *results, k)
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
    """The gradients of a draw with respect to x and, if ``by_t``, with respect to t.

    Args:
        y: The log value; it may be None if p is given and ``by_t`` is false.
        p: exp(y), or None if it is to be computed from y.
        t: The temperatures.
        by_y: The gradient with respect to y, or None.
        by_value: The gradient with respect to the value, or None.
        by_t: Whether the gradient with respect to t is wanted.
        by_own: The gradient with respect to the log density of the draw, or None.
    """
    some = y if p is None else p
    assert some is not None
    k, batch = some.shape[-1], some.shape[:-1]
    dx, t = torch.empty_like(some), rows(t, batch)
    dt = new(dx, batch) if by_t else None
    # strides may copy a gradient. The copies get the gradients' names, so that they live as long as
    # the kernel uses their pointers.
    (by_y, y_row, y_column), (by_value, row, column) = strides(by_y, 1), strides(by_value, 1)
    by_own, own_row, _ = strides(by_own, 0)
    given = _pointer(y), _pointer(p), t.data_ptr(), t.numel(), _pointer(by_y), y_row, y_column
    more = _pointer(by_value), row, column, _pointer(by_own), own_row
    _run("draw_back", dx.numel() // k, k, *given, *more, dx.data_ptr(), _pointer(dt), k)
    return dx, dt


def density(x: Tensor, t: Tensor, y: Tensor, simplex: bool) -> Tensor:
    """The log density of each row of log values y, in log space or, if ``simplex``, of exp(y)."""
    k, batch = x.shape[-1], joint(y.shape[:-1], x.shape[:-1], t.shape)
    _, x, t, y = for_density(x, t, y, batch, 1)
    out = x.new_empty(batch)
    parameters = x.data_ptr(), x.numel() // k, t.data_ptr(), t.numel()
    _run("density", batch.numel(), k, *parameters, y.data_ptr(), out.data_ptr(), simplex, k)
    return out


def density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The wanted gradients with respect to x, t and y, from the gradient g of ``density``."""
    k, batch = x.shape[-1], g.shape
    shape, x, t, y = for_density(x, t, y, batch, 1)
    dx, dt, dy = (
        new(x, each) if want else None
        for each, want in zip((shape, batch, shape), wanted, strict=True)
    )
    by_out, row, _ = strides(g, 0)
    parameters = x.data_ptr(), x.numel() // k, t.data_ptr(), t.numel()
    results = _pointer(dx), _pointer(dy), _pointer(dt), simplex
    given = y.data_ptr(), _pointer(by_out), row
    _run("density_back", batch.numel(), k, *parameters, *given, *results, k)
    return dx, dt, dy


def mass(x: Tensor, value: Tensor) -> tuple[Tensor, None]:
    """The log mass sum_k value_k log p_k of each row; log p is None: ``mass_back`` computes it."""
    k, batch = x.shape[-1], joint(value.shape[:-1], x.shape[:-1])
    shape = Size((*batch, k))
    x, value = rows(x, shape), value.expand(shape).contiguous()
    out = x.new_empty(batch)
    given = x.data_ptr(), x.numel() // k, value.data_ptr(), out.data_ptr()
    _run("mass", batch.numel(), k, *given, k)
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
    given = x.data_ptr(), x.numel() // k, value.data_ptr(), _pointer(by_out), row
    _run("mass_back", batch.numel(), k, *given, _pointer(dx), _pointer(dvalue), k)
    return dx, dvalue


def binary_draw(
    x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """A logit y = (x + noise) / t, and the value.

    The value is sigmoid(y) or, if ``hard``, 1 where x + noise is positive and 0 elsewhere. An
    infinite logit x makes y equal to x. The arguments are otherwise those of ``draw``, with
    logistic noise.
    """
    shape = joint(noise.shape, x.shape, t.shape)
    (seed, drawn), x, t = seed_and_noise(noise, shape), rows(x, shape), rows(t, shape)
    value = new(x, shape)
    y = torch.empty_like(value) if log else None
    parameters = x.data_ptr(), x.numel(), t.data_ptr(), t.numel()
    results = _pointer(y), value.data_ptr(), hard
    _run("binary_draw", shape.numel(), 1, seed, _pointer(drawn), *parameters, *results)
    return y, value


def binary_draw_back(
    y: Tensor, t: Tensor, by_y: Tensor | None, by_value: Tensor | None, by_t: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradients of a binary draw with respect to x and, if ``by_t``, with respect to t."""
    dx, dt, t = torch.empty_like(y), new(y, y.shape) if by_t else None, rows(t, y.shape)
    (by_y, y_row, _), (by_value, row, _) = strides(by_y, 0), strides(by_value, 0)
    given = y.data_ptr(), t.data_ptr(), t.numel(), _pointer(by_y), y_row, _pointer(by_value), row
    _run("binary_draw_back", y.numel(), 1, *given, dx.data_ptr(), _pointer(dt))
    return dx, dt


def binary_density(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
    """The log density of the logits y or, if ``unit``, of sigmoid(y) in (0, 1)."""
    batch = joint(y.shape, x.shape, t.shape)
    shape, x, t, y = for_density(x, t, y, batch, 0)
    out = x.new_empty(shape)
    parameters = x.data_ptr(), x.numel(), t.data_ptr(), t.numel()
    _run("binary_density", shape.numel(), 1, *parameters, y.data_ptr(), out.data_ptr(), unit)
    return out


def binary_density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The wanted gradients with respect to x, t and y, from the gradient g of the density."""
    shape, x, t, y = for_density(x, t, y, g.shape, 0)
    dx, dt, dy = (new(x, shape) if each else None for each in wanted)
    by_out, row, _ = strides(g, 0)
    parameters = x.data_ptr(), x.numel(), t.data_ptr(), t.numel()
    results = _pointer(dx), _pointer(dy), _pointer(dt), unit
    given = y.data_ptr(), _pointer(by_out), row
    _run("binary_density_back", shape.numel(), 1, *parameters, *given, *results)
    return dx, dt, dy
