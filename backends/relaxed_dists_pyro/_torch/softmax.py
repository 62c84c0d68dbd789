"""The passes of a draw and of its density, each with its gradient written out.

Autograd would keep a tensor for each operation, and go through memory once for each on the way
back; these keep what they return, or were given.

The density of a drawn value is computed from the log (or logit) that the value keeps behind it, and
its gradient goes to the parameters that way, which is exact where the value underflows. The value
itself is an input too: it gets its share where its own gradient is asked for.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .state import eager, known, transformed

BLOCK = 2**18  # elements at a time: what is written in between stays in the processor's cache


def blocks(whole: Tensor, *others: Any) -> Iterable[tuple[Any, ...]]:
    """Cut a tensor along its longest axis but the last, and the others where they have that axis.

    On a CPU a fresh tensor of a megabyte costs its pages, and one that the cache can't hold a way
    through memory: three times the arithmetic. On a GPU there is one block.
    """
    if whole.numel() <= BLOCK or whole.dim() == 1 or whole.device.type != "cpu":
        return ((whole, *others),)
    length, axis = max((n, i - whole.dim()) for i, n in enumerate(whole.shape[:-1]))
    size = max(1, BLOCK * length // whole.numel())

    def cut(x: Any) -> Iterable[Any]:
        if isinstance(x, Tensor) and x.dim() >= -axis and x.shape[axis] == length:
            return x.split(size, axis)
        return itertools.repeat(x)

    return zip(whole.split(size, axis), *map(cut, others), strict=False)


class Function(torch.autograd.Function):
    """One with setup_context, for torch.func; called without looking at its signature each time."""

    @classmethod
    def apply(cls, *given: Any) -> Any:
        """The value, with the gradient."""
        if transformed():
            return super().apply(*given)
        # torch's own binds the arguments by inspect.signature: as long as 2,000 elements take.
        return super(torch.autograd.Function, cls).apply(*given)  # type: ignore[misc]


def _shift(x: Tensor, e: Tensor) -> Tensor:
    """x less its largest, in place; exp of that, into e; and the sum of it.

    Not torch's own softmax, which for few categories is a loop over rows, and writes elsewhere.
    """
    x -= x.amax(-1, keepdim=True)
    return torch.exp(x, out=e).sum(-1, keepdim=True)


def one_hot(x: Tensor) -> Tensor:
    """The one-hot argmax."""
    # Not torch's one_hot, which vmap of grad can't map.
    return torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), 1.0)


def only_one(hard: Tensor, x: Tensor) -> Tensor:
    """Ones at the largest of x, in place; at the first of them where there are more, or NaN."""
    # As once in a million rows; argmax takes ten times as long. A GPU would have to be waited for.
    fine = x.device.type == "cpu" and known(x) and (hard.sum(-1) == 1).all()
    return hard if fine else hard.copy_(one_hot(x))


class Softmaxes(Function):
    """log_softmax(x) and softmax(x) of (x + noise) / t, or its argmax with its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, noise: Tensor | float, t: Tensor, hard: bool) -> tuple[Tensor, Tensor]:
        if transformed():
            y = torch.log_softmax((x + noise) / t, -1)
            return y, one_hot(y) if hard else y.exp()
        scores = x + noise
        values = torch.empty_like(scores)
        for y, p, temperature in blocks(scores, values, t):
            y /= temperature
            total = _shift(y, p)
            if hard:
                only_one(torch.ge(y, 0.0, out=p), y)
            else:
                p /= total
            y -= total.log_()
        return scores, values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.shapes = [getattr(x, "shape", None) for x in inputs[:2]]
        ctx.hard = inputs[3]
        ctx.save_for_backward(inputs[2], *(output[:1] if ctx.hard else output))

    @staticmethod
    def backward(ctx: Any, by_y: Tensor | None, by_p: Tensor | None) -> tuple[Any, ...]:
        t, y, *p = ctx.saved_tensors
        (p,) = p or (y.exp(),)
        zero = y.new_zeros(())
        by_y, by_p = zero if by_y is None else by_y, zero if by_p is None else by_p
        if torch.is_grad_enabled() or transformed():  # for a second derivative
            h = torch.addcmul(by_y, p, by_p)
            d = (h - p * h.sum(-1, keepdim=True)) / t
        else:
            d = torch.empty_like(y)
            for h, q, one, other, temperature in blocks(d, p, by_y, by_p, t):
                torch.addcmul(one, q, other, out=h)
                h.addcmul_(q, h.sum(-1, keepdim=True), value=-1).div_(temperature)
        by_x, by_noise = (
            d.sum_to_size(shape) if wanted else None
            for shape, wanted in zip(ctx.shapes, ctx.needs_input_grad, strict=False)
        )
        # The scores are y but for a number a row, and d sums to zero over a row.
        by_t = -(d * y).sum_to_size(t.shape) if ctx.needs_input_grad[2] else None
        return by_x, by_noise, by_t, None


# A leaf of its own. torch.autograd.grad runs only the nodes that lead to what it is asked for, so
# that this leaf's node runs in backward() alone, which asks for all leaves.
EVERYTHING = torch.zeros((), device="cpu", requires_grad=True)
_EVERYTHING_NODE = torch.autograd.graph.get_gradient_edge(EVERYTHING).node


def _asked(value: Tensor) -> bool:
    """Whether the gradient by a value may be asked for in the backward pass that is running."""
    return (
        value.is_leaf
        or value.retains_grad
        or bool(value._backward_hooks)
        or not torch._C._will_engine_execute_node(_EVERYTHING_NODE)  # in torch.autograd.grad
    )


def _split(g: Tensor, y: Tensor, value: Tensor, one_hot: bool) -> tuple[Tensor, Tensor]:
    """A gradient by the log (or logit) y, split in two: one by y, and one by the value.

    The value's is the whole of it, divided by dx / dy and finite. What the value passes on to y by
    way of its own graph is taken off the other, so that parameters get the whole gradient once.
    """
    passed_on = p = y.exp() if one_hot else y.sigmoid()
    slope = p
    if not one_hot:
        passed_on, slope = p * (1 - p), p * (-y).sigmoid()
    finfo = torch.finfo(value.dtype)
    by_value = (g / slope.clamp(min=finfo.tiny)).clamp(finfo.min, finfo.max).to(value.dtype)
    return g - passed_on * by_value.to(y.dtype), by_value


class Linked(Function):
    """The log (or logit) behind a value, with a gradient by the value as well."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, one_hot: bool, value: Tensor, everything: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        y, ctx.one_hot, value, _ = inputs
        ctx.value = None if transformed() else value
        ctx.save_for_backward(y, value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        if ctx.value is not None and not _asked(ctx.value):
            return g, None, None, None
        y, value = ctx.saved_tensors
        if torch.is_grad_enabled() and ctx.value is not None:  # for a second derivative
            y = Linked.apply(y, ctx.one_hot, ctx.value, EVERYTHING)
        by_y, by_value = _split(g, y, value, ctx.one_hot)
        return by_y, None, by_value, None


def linked(y: Tensor, value: Tensor, one_hot: bool) -> Tensor:
    """The log (or logit) y behind a value, with a gradient by the value where one may be asked for.

    ``_link`` of the result is the value, by which the kernel of an own sample's density tells
    whether its gradient is asked for.
    """
    if not value.requires_grad:
        return y
    if eager():
        new: Tensor = Linked.apply(y, one_hot, value, EVERYTHING)
        new._link, new._all_finite = value, getattr(y, "_all_finite", False)  # type: ignore[attr-defined]
        return new
    if y.requires_grad:
        return y
    slope = y.exp() if one_hot else y.sigmoid() * (-y).sigmoid()
    share = value.to(y.dtype) / slope.clamp(min=torch.finfo(y.dtype).tiny)  # the slope underflows
    return y + (share - share.detach())


class Own(Function):
    """The scores of an own sample, which have a gradient only for that by the sample's value."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, value: Tensor, everything: Tensor) -> Tensor:
        return scores.view_as(scores)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.value = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        return g if ctx.value is not None and _asked(ctx.value) else None, None, None


class SumLogSoftmax(Function):
    """sum(log_softmax(x - t y) - y), or without the last; of an own y not by way of the scores."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        t: Tensor,
        y: Tensor,
        simplex: bool,
        own: bool,
        value: Tensor | None = None,
        everything: Tensor | None = None,
    ) -> Tensor:
        if transformed():
            logs = torch.log_softmax(x - t * y, -1)
            return (logs - y if simplex else logs).sum(-1)
        x, t, y = torch.broadcast_tensors(x, t, y)
        total = y.new_empty((*y.shape[:-1], 1))
        for values, logits, temperature, out in blocks(y, x, t, total):
            scores = values * temperature
            torch.sub(logits, scores, out=scores)
            scores -= _shift(scores, torch.empty_like(scores)).log_()
            if simplex:
                scores -= values
            torch.sum(scores, -1, keepdim=True, out=out)
        return total[..., 0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *given, ctx.simplex, ctx.own = inputs[:5]
        ctx.value = inputs[5] if len(inputs) > 5 else None
        ctx.shapes = [x.shape for x in given]
        ctx.whole = (*output.shape, given[0].shape[-1])
        # Those of an own value are needed, and their versions looked at, only if its gradient is
        # asked for.
        if not ctx.own or ctx.value is not None:
            ctx.save_for_backward(*given)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        g = g[..., None]
        by: list[Any] = [None, None, -g if ctx.simplex else torch.zeros_like(g)]
        asked = ctx.value is not None and _asked(ctx.value)
        if asked or not ctx.own:
            x, t, y = ctx.saved_tensors
            scores = x - t * y
            if torch.is_grad_enabled() or transformed():
                p = torch.softmax(scores, -1)
            else:
                p = scores.div_(_shift(scores, scores))
            scores = g - g * y.shape[-1] * p
            by = [scores, -scores * y if ctx.needs_input_grad[1] else None, by[2] - t * scores]
        return (
            *(
                b.expand(ctx.whole).sum_to_size(shape) if wanted and b is not None else None
                for b, shape, wanted in zip(by, ctx.shapes, ctx.needs_input_grad, strict=False)
            ),
            None,
            None,
            None,
            None,
        )


class LogisticTerms(Function):
    """The terms of a binary density: d - 2 softplus(d) for d = x - t y, and 2 softplus(y) - y."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
        d = x - t * y
        # torch's own threshold of 20 is for float32: in double its log1p(exp(-20)) is 2e-9.
        terms = torch.sub(d, softplus(d, threshold=40), alpha=2)
        return torch.add(terms - y, softplus(y, threshold=40), alpha=2) if unit else terms

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *given, ctx.unit = inputs
        ctx.save_for_backward(*given)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, t, y = given = ctx.saved_tensors
        by_d = -g * torch.tanh((x - t * y) / 2)
        by_y = g * torch.tanh(y / 2) - t * by_d if ctx.unit else -t * by_d
        by = by_d, -by_d * y if ctx.needs_input_grad[1] else None, by_y
        return (
            *(
                b.sum_to_size(z.shape) if wanted and b is not None else None
                for b, z, wanted in zip(by, given, ctx.needs_input_grad, strict=False)
            ),
            None,
        )
