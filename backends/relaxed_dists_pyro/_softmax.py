"""The two passes of a draw and of its density, each with its gradient written out.

Autograd would keep a tensor for each operation, and go through memory once for each on the way
back; these keep what they return, or were given.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

FEW = 32  # categories below which torch's own softmax, a loop over rows, takes ten times as long


def eager() -> bool:
    """Whether torch takes functions with a gradient of their own: it is not compiling or tracing.

    For derivatives in forward mode they would need a third formula.
    """
    return not (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state()
        or forward_ad._current_level >= 0
    )


class Function(torch.autograd.Function):
    """One with setup_context, for torch.func; called without looking at its signature each time."""

    @classmethod
    def apply(cls, *given: Any) -> Any:
        """The value, with the gradient."""
        if torch._C._are_functorch_transforms_active():
            return super().apply(*given)
        # torch's own binds the arguments by inspect.signature: as long as 2,000 elements take.
        return super(torch.autograd.Function, cls).apply(*given)  # type: ignore[misc]


def _shifted(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In place of x: x less its log sum; and exp of x less its largest, and the sum of that."""
    x -= x.amax(-1, keepdim=True)
    e = x.exp()
    total = e.sum(-1, keepdim=True)
    x -= total.log()
    return x, e, total


class Softmaxes(Function):
    """log_softmax(x / t) and softmax(x / t)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        scores = x / t
        if x.shape[-1] >= FEW:
            y = torch.log_softmax(scores, -1)
            return y, y.exp()
        y, e, total = _shifted(scores)
        e /= total
        return y, e

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.shape = inputs[0].shape
        ctx.save_for_backward(inputs[1], *output)

    @staticmethod
    def backward(ctx: Any, by_y: Tensor | None, by_p: Tensor | None) -> tuple[Any, Any]:
        t, y, p = ctx.saved_tensors
        if by_p is not None:
            h = p * by_p if by_y is None else torch.addcmul(by_y, p, by_p)
        elif by_y is not None:
            h = by_y
        else:
            return None, None
        d = torch.addcmul(h, p, h.sum(-1, keepdim=True), value=-1) / t
        by_x = d.sum_to_size(ctx.shape) if ctx.needs_input_grad[0] else None
        # The scores are y but for a number a row, and d sums to zero over a row.
        by_t = -(d * y).sum_to_size(t.shape) if ctx.needs_input_grad[1] else None
        return by_x, by_t


class SumLogSoftmax(Function):
    """sum(log_softmax(x) - less)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, less: Tensor | float) -> Tensor:
        few = x.shape[-1] < FEW
        y = _shifted(x.clone())[0] if few else torch.log_softmax(x, -1)
        return y.sub_(less).sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Any], output: Tensor) -> None:
        ctx.less = getattr(inputs[1], "shape", None)
        ctx.shape = inputs[0].shape
        if ctx.needs_input_grad[0]:  # not of an own sample
            ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, Any]:
        g = g[..., None]
        by_x = by_less = None
        if ctx.needs_input_grad[0]:
            (x,) = ctx.saved_tensors
            by_x = g - g * x.shape[-1] * torch.softmax(x, -1)
        if ctx.needs_input_grad[1]:
            by_less = -g.expand(ctx.shape).sum_to_size(ctx.less)
        return by_x, by_less
