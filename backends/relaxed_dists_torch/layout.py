"""How the tensors of a draw or density lie in memory, for the kernels that read them."""

import torch
from torch import Size, Tensor

from .seed import Seed

PLAIN = {Tensor, torch.nn.Parameter}  # others, such as fake tensors, may have no numbers


def joint(*shapes: Size) -> Size:
    """The joint shape of tensors that broadcast."""
    first = shapes[0]
    for shape in shapes:
        if shape and shape != first:
            return torch.broadcast_shapes(*shapes)
    return first  # the usual case, which broadcast_shapes takes ten times as long for


def rows(x: Tensor, shape: Size) -> Tensor:
    """A tensor that broadcasts with a shape, as contiguous rows that repeat as a whole."""
    if x.numel() > 1 and x.shape != shape:
        while x.dim() > 1 and (x.stride(0) == 0 or x.shape[0] == 1):
            x = x[0]
        if x.shape != shape[len(shape) - x.dim() :]:
            x = x.expand(shape)
    return x.contiguous()


def for_density(
    x: Tensor, t: Tensor, y: Tensor, batch: Size, event: int
) -> tuple[Size, Tensor, Tensor, Tensor]:
    """The shape of y, and logits, temperatures and y, whose last axis is an event if that is 1."""
    shape = Size((*batch, x.shape[-1])) if event else batch
    return shape, rows(x, shape), rows(t, batch), y.expand(shape).contiguous()


def strides(g: Tensor | None, event: int) -> tuple[Tensor | None, int, int]:
    """A gradient with the strides of its rows and its columns (for event 0, of its numbers)."""
    if g is None:
        return None, 0, 0
    if g.is_contiguous():
        return g, g.shape[-1] if event else 1, 1
    if not any(g.stride()):
        return g, 0, 0
    if event and g.stride(-1) == 0 and g.select(-1, 0).is_contiguous():
        return g, 1, 0
    return strides(g.contiguous(), event)


def seed_and_noise(noise: Tensor | Seed, shape: Size) -> tuple[int, Tensor | None]:
    """The seed of noise, and noise that has been drawn already."""
    if isinstance(noise, Seed):
        return noise.number, None
    return 0, noise.expand(shape).contiguous()


def new(like: Tensor, shape: Size) -> Tensor:
    """A new tensor of a shape, beside a contiguous one."""
    # empty_like takes half as long as new_empty.
    return torch.empty_like(like) if like.shape == shape else like.new_empty(shape)
