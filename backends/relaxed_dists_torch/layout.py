"""How the tensors of a draw or density lie in memory, for the kernels that read them."""

import torch
from torch import Size, Tensor

from .seed import Seed

PLAIN = (Tensor, torch.nn.Parameter)  # tensors of other types, such as fake ones, may lack numbers


def joint(*shapes: Size) -> Size:
    """The shape to which tensors of these shapes broadcast."""
    first = shapes[0]
    for shape in shapes:
        if shape and shape != first:
            return torch.broadcast_shapes(*shapes)
    return first  # the usual case, for which broadcast_shapes takes ten times as long


def rows(x: Tensor, shape: Size) -> Tensor:
    """x as contiguous rows, which repeated in turn fill a shape that x broadcasts to.

    The kernels repeat the rows themselves, so that leading axes that broadcast need no copy.
    """
    if x.numel() > 1 and x.shape != shape:
        while x.dim() > 1 and (x.stride(0) == 0 or x.shape[0] == 1):
            x = x[0]
        if x.shape != shape[len(shape) - x.dim() :]:
            x = x.expand(shape)
    return x.contiguous()


def for_density(
    x: Tensor, t: Tensor, y: Tensor, batch: Size, event: int
) -> tuple[Size, Tensor, Tensor, Tensor]:
    """The shape of y, and logits x, temperatures t and y in the layout that kernels need.

    ``event`` is the number of axes of an event: 1 for rows of categories, 0 for binary values.
    """
    shape = Size((*batch, x.shape[-1])) if event else batch
    return shape, rows(x, shape), rows(t, batch), y.expand(shape).contiguous()


def strides(g: Tensor | None, event: int) -> tuple[Tensor | None, int, int]:
    """A gradient, its stride from row to row, and its stride from column to column.

    An expanded gradient has strides of 0. For binary values, where ``event`` is 0, a row is one
    number. A gradient with any other layout is copied.
    """
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
    """A seed and None, if kernels make the noise; otherwise 0 and the noise, expanded."""
    if isinstance(noise, Seed):
        return noise.number, None
    return 0, noise.expand(shape).contiguous()


def new(like: Tensor, shape: Size) -> Tensor:
    """A new tensor of a shape, with the dtype and device of a contiguous tensor."""
    # empty_like takes half as long as new_empty.
    return torch.empty_like(like) if like.shape == shape else like.new_empty(shape)
