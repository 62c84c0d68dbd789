"""The hot formulas compiled to machine code, for float32 on a CPU: a call of each on tensors.

``load`` has the kernels themselves. The functions here have the names and the signatures of those
in ``by_operations``, which computes the same by torch's operations, for any dtype and device.
"""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor

from ..seed import Seed
from .load import KERNELS

BLOCK = 2048  # of kernels.c, where a block of rows has its own random numbers
PLAIN = {Tensor, torch.nn.Parameter}  # others, such as fake tensors, may have no numbers
SHARE = 2**16  # for fewer numbers, waking a thread takes longer than the work it takes over

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None  # a forked process has none of its parent's threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def usable(x: Tensor) -> bool:
    """Whether a tensor's numbers can be handed to the kernels."""
    return KERNELS is not None and x.dtype is torch.float32 and x.is_cpu and type(x) in PLAIN


def _run(name: str, number: int, width: int, *arguments: Any) -> Any:
    """Call a kernel for a number of rows, shared by torch's number of threads."""
    assert KERNELS is not None
    kernel, size = KERNELS[name], number * width
    threads = min(torch.get_num_threads(), size // SHARE) if size >= 2 * SHARE else 1
    if threads < 2:
        return kernel(*arguments, 0, number)
    global _pool
    if _pool is None or _pool._max_workers < threads:
        _pool = ThreadPoolExecutor(threads)
    block = max(BLOCK // max(width, 1), 1)  # rows of a block
    step = -(-number // (threads * block)) * block
    starts = range(0, number, step)
    parts = [_pool.submit(kernel, *arguments, i, min(i + step, number)) for i in starts]
    wait(parts)
    return max(part.result() or 0 for part in parts)


def rows(x: Tensor, shape: Size) -> Tensor:
    """A tensor that broadcasts with a shape, as contiguous rows that repeat as a whole."""
    if x.shape != shape and x.numel() > 1:
        while x.dim() > 1 and (x.stride(0) == 0 or x.shape[0] == 1):
            x = x[0]
        if x.shape != shape[len(shape) - x.dim() :]:
            x = x.expand(shape)
    return x.contiguous()


def strides(g: Tensor, event: int) -> tuple[Tensor, int, int]:
    """A gradient with the strides of its rows and its columns (for event 0, of its numbers)."""
    if g.is_contiguous():
        return g, g.shape[-1] if event else 1, 1
    if not any(g.stride()):
        return g, 0, 0
    if event and g.stride(-1) == 0 and g[..., 0].is_contiguous():
        return g, 1, 0
    return strides(g.contiguous(), event)


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def look(x: Tensor, one_hot: bool) -> int:
    """What is in logits: 0 if all are finite, 1 if some are masked, 2 if some are not allowed."""
    assert KERNELS is not None
    x = x.contiguous()
    found: int = KERNELS["look"](x.data_ptr(), x.numel(), x.shape[-1] if one_hot else 0)
    return found


def gumbel(seed: Seed, like: Any = None) -> Tensor:
    """Standard Gumbel noise."""
    out = torch.empty(seed.shape, dtype=torch.float32, device="cpu")
    k = seed.shape[-1] if seed.shape else 1
    _run("noise", out.numel() // max(k, 1), k, seed.number, out.data_ptr(), k)
    return out


def logistic(seed: Seed, like: Any = None) -> Tensor:
    """Standard logistic noise."""
    out = torch.empty(seed.shape, dtype=torch.float32, device="cpu")
    _run("logistic", out.numel(), 1, seed.number, out.data_ptr())
    return out


def joint(*shapes: Size) -> Size:
    """The joint shape of tensors that broadcast."""
    first = shapes[0]
    for shape in shapes:
        if shape and shape != first:
            return torch.broadcast_shapes(*shapes)
    return first  # the usual case, which broadcast_shapes takes ten times as long for


def _new(like: Tensor, shape: Size, wanted: bool = True) -> Tensor | None:
    return like.new_empty(shape) if wanted else None


def _given(noise: Tensor | Seed, shape: Size) -> tuple[int, Tensor | None]:
    """The seed of noise, and noise that has been drawn already."""
    return (
        (noise.number, None) if isinstance(noise, Seed) else (0, noise.expand(shape).contiguous())
    )


class Own(NamedTuple):
    """The log density of each draw on the simplex, and whether a category is masked."""

    log_prob: Tensor
    masked: bool


def draw(
    x: Tensor,
    noise: Tensor | Seed,
    t: Tensor,
    hard: bool,
    log: bool = True,
    own: list[Own] | None = None,
) -> tuple[Tensor | None, Tensor]:
    """y = log_softmax((x + noise) / t), and its exponential or the one-hot argmax of x + noise.

    Args:
        x: Logits of shape ``(..., K)``; -inf masks a category.
        noise: Noise of that shape, or the seed that it is made from.
        t: The temperatures, one a row.
        hard: Whether the value is the argmax.
        log: Whether y is wanted; else it is None.
        own: A list that gets the density of the draws, if the noise is a seed and y is wanted.
    """
    k, shape = x.shape[-1], x.shape
    if noise.shape != shape or t.dim():
        batch = joint(noise.shape[:-1], shape[:-1], t.shape)
        shape = Size((*batch, k))
        t = rows(t, batch)
    (seed, given), x = _given(noise, shape), rows(x, shape)
    y, value = _new(x, shape, log), x.new_empty(shape)
    parameters = x.data_ptr(), x.numel() // k, t.data_ptr(), t.numel()
    density = _new(x, shape[:-1], own is not None and given is None and log)
    results = _pointer(y), value.data_ptr(), _pointer(density), hard
    masked = _run("draw", value.numel() // k, k, seed, _pointer(given), *parameters, *results, k)
    if own is not None and density is not None:
        own.append(Own(density, bool(masked)))
    return y, value


def draw_back(
    y: Tensor | None,
    p: Tensor | None,
    t: Tensor,
    by_y: Tensor | None,
    by_value: Tensor | None,
    by_t: bool,
) -> tuple[Tensor, Tensor | None]:
    """The gradients of ``draw`` by x and, if ``by_t``, by t.

    Args:
        y: The log value; it may be None if p is given and ``by_t`` is false.
        p: The softmax, or None if it is to be made from y.
        t: The temperatures.
        by_y: The gradient by y, or None.
        by_value: The gradient by the value, or None.
        by_t: Whether the gradient by t is wanted.
    """
    shape = (y if p is None else p).shape  # type: ignore[union-attr]
    k = shape[-1]
    dx, dt = t.new_empty(shape), _new(t, shape[:-1], by_t)
    t = rows(t, shape[:-1])
    gradients, kept = [], []
    for g in (by_y, by_value):
        g, row, column = (None, 0, 0) if g is None else strides(g, 1)
        gradients += [_pointer(g), row, column]
        kept.append(g)  # a copy must live as long as its pointer is used
    values = _pointer(y), _pointer(p), t.data_ptr(), t.numel()
    _run("draw_back", dx.numel() // k, k, *values, *gradients, dx.data_ptr(), _pointer(dt), k)
    return dx, dt


def density(x: Tensor, t: Tensor, y: Tensor, simplex: bool) -> Tensor:
    """The log density of log values y, in log space or on the simplex, one a row."""
    k = x.shape[-1]
    batch = joint(y.shape[:-1], x.shape[:-1], t.shape)
    shape = Size((*batch, k))
    x, t, y = rows(x, shape), rows(t, batch), y.expand(shape).contiguous()
    out = x.new_empty(batch)
    parameters = x.data_ptr(), x.numel() // k, t.data_ptr(), t.numel()
    _run("density", batch.numel(), k, *parameters, y.data_ptr(), out.data_ptr(), simplex, k)
    return out


def density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of ``density`` by x, t and y, those that are wanted, from the one by it, g."""
    k, batch = x.shape[-1], g.shape
    shape = Size((*batch, k))
    x, t, y = rows(x, shape), rows(t, batch), y.expand(shape).contiguous()
    dx, dt = _new(x, shape, wanted[0]), _new(x, batch, wanted[1])
    dy = _new(x, shape, wanted[2])
    g, row, _ = strides(g, 0)
    parameters = x.data_ptr(), x.numel() // k, t.data_ptr(), t.numel()
    results = _pointer(dx), _pointer(dy), _pointer(dt), simplex
    given = y.data_ptr(), g.data_ptr(), row
    _run("density_back", batch.numel(), k, *parameters, *given, *results, k)
    return dx, dt, dy


def mass(x: Tensor, value: Tensor) -> tuple[Tensor, bool]:
    """sum_k value_k log p_k, one a row, and whether all values are one-hot."""
    k = x.shape[-1]
    batch = joint(value.shape[:-1], x.shape[:-1])
    shape = Size((*batch, k))
    x, value = rows(x, shape), value.expand(shape).contiguous()
    out = x.new_empty(batch)
    given = x.data_ptr(), x.numel() // k, value.data_ptr(), out.data_ptr()
    return out, not _run("mass", batch.numel(), k, *given, k)


def mass_back(
    x: Tensor, value: Tensor, g: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of ``mass`` by x and by the value."""
    k, batch = x.shape[-1], g.shape
    shape = Size((*batch, k))
    x, value = rows(x, shape), value.expand(shape).contiguous()
    dx, dvalue = _new(x, shape, wanted[0]), _new(x, shape, wanted[1])
    g, row, _ = strides(g, 0)
    given = x.data_ptr(), x.numel() // k, value.data_ptr(), g.data_ptr(), row
    _run("mass_back", batch.numel(), k, *given, _pointer(dx), _pointer(dvalue), k)
    return dx, dvalue


def binary_draw(
    x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """y = (x + noise) / t, and its sigmoid, or 1 where x + noise is positive.

    Args as those of ``draw``; each logit has its own noise, and infinite ones are point masses.
    """
    shape = joint(noise.shape, x.shape, t.shape)
    (seed, given), x, t = _given(noise, shape), rows(x, shape), rows(t, shape)
    y, value = _new(x, shape, log), x.new_empty(shape)
    parameters = x.data_ptr(), x.numel(), t.data_ptr(), t.numel()
    results = _pointer(y), value.data_ptr(), hard
    _run("binary_draw", shape.numel(), 1, seed, _pointer(given), *parameters, *results)
    return y, value


def binary_draw_back(
    y: Tensor, t: Tensor, by_y: Tensor | None, by_value: Tensor | None, by_t: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradients of ``binary_draw`` by x and, if ``by_t``, by t."""
    dx, dt = y.new_empty(y.shape), _new(y, y.shape, by_t)
    t = rows(t, y.shape)
    gradients, kept = [], []
    for g in (by_y, by_value):
        g, row, _ = (None, 0, 0) if g is None else strides(g, 0)
        gradients += [_pointer(g), row]
        kept.append(g)  # a copy must live as long as its pointer is used
    given = y.data_ptr(), t.data_ptr(), t.numel()
    _run("binary_draw_back", y.numel(), 1, *given, *gradients, dx.data_ptr(), _pointer(dt))
    return dx, dt


def binary_density(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
    """The log density of logits y, of the logit or on (0, 1)."""
    shape = joint(y.shape, x.shape, t.shape)
    x, t, y = rows(x, shape), rows(t, shape), y.expand(shape).contiguous()
    out = x.new_empty(shape)
    parameters = x.data_ptr(), x.numel(), t.data_ptr(), t.numel()
    _run("binary_density", shape.numel(), 1, *parameters, y.data_ptr(), out.data_ptr(), unit)
    return out


def binary_density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of ``binary_density`` by x, t and y, those that are wanted."""
    shape = g.shape
    x, t, y = rows(x, shape), rows(t, shape), y.expand(shape).contiguous()
    dx, dt, dy = (_new(x, shape, each) for each in wanted)
    g, row, _ = strides(g, 0)
    parameters = x.data_ptr(), x.numel(), t.data_ptr(), t.numel()
    results = _pointer(dx), _pointer(dy), _pointer(dt), unit
    given = y.data_ptr(), g.data_ptr(), row
    _run("binary_density_back", shape.numel(), 1, *parameters, *given, *results)
    return dx, dt, dy
