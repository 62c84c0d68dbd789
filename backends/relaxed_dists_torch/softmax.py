"""Autograd functions for a draw and its density (long: each has its gradient written out).

Autograd would save a tensor for each operation, and its backward pass would go through memory once
for each of them. These functions save only their inputs or their outputs.

A drawn value keeps its log (or logit) y behind it. The density is computed from y, and its gradient
reaches the parameters through y, which stays exact where the value underflows. Autograd then
doesn't know that the density depends on the value. So the value is an input of these functions
too, and its gradient is computed only where the user asks for that.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .state import eager, known, transformed

BLOCK = 2**18  # elements of a block, so that its intermediate results stay in the CPU's cache


def blocks(whole: Tensor, *others: Any) -> Iterable[tuple[Any, ...]]:
    """Cut a tensor into blocks along its longest axis except the last; cut the others alike.

    Others that lack this axis (numbers, or tensors that broadcast along it) come whole with each
    block. On a CPU, allocating large tensors and writing them to memory takes three times as long
    as the arithmetic. On a GPU there is one block.
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
    """An autograd function with setup_context, as torch.func needs it, and a faster ``apply``."""

    @classmethod
    def apply(cls, *given: Any) -> Any:
        """The value, with the gradient."""
        if transformed():
            return super().apply(*given)
        # torch's own apply binds the arguments by inspect.signature, which takes as long as the
        # arithmetic of 2,000 elements.
        return super(torch.autograd.Function, cls).apply(*given)  # type: ignore[misc]


def _shift(x: Tensor, exponentials: Tensor) -> Tensor:
    """Subtract each row's maximum from x in place, write exp(x), and return its sum over the row.

    torch's own softmax is slower here: it loops over rows, which is slow for few categories, and
    it allocates its result.
    """
    x -= x.amax(-1, keepdim=True)
    return torch.exp(x, out=exponentials).sum(-1, keepdim=True)


def one_hot(x: Tensor) -> Tensor:
    """The one-hot argmax."""
    # torch's own one_hot fails in vmap of grad.
    return torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), 1.0)


def only_one(hard: Tensor, x: Tensor) -> Tensor:
    """Make ``hard``, with ones at all maxima of x, one-hot in place: ties keep the first maximum.

    Only ties and NaN need this, about one row in a million.
    """
    # argmax takes ten times as long as this test, except on a GPU, where reading the answer would
    # force a synchronisation.
    is_one_hot = x.device.type == "cpu" and known(x) and (hard.sum(-1) == 1).all()
    return hard if is_one_hot else hard.copy_(one_hot(x))


class Softmaxes(Function):
    """log_softmax and softmax of (x + noise) / t.

    If ``hard``, the one-hot argmax takes the place of the softmax, and has the softmax's gradient.
    """

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
    def backward(ctx: Any, grad_y: Tensor | None, grad_p: Tensor | None) -> tuple[Any, ...]:
        t, y, *p = ctx.saved_tensors
        (p,) = p or (y.exp(),)  # saved unless hard
        zero = y.new_zeros(())
        grad_y, grad_p = zero if grad_y is None else grad_y, zero if grad_p is None else grad_p
        # With h = grad_y + p grad_p, the gradient by x and by the noise is (h - p sum(h)) / t.
        if torch.is_grad_enabled() or transformed():  # for a second derivative
            h = torch.addcmul(grad_y, p, grad_p)
            d = (h - p * h.sum(-1, keepdim=True)) / t
        else:
            d = torch.empty_like(y)
            for h, q, of_y, of_p, temperature in blocks(d, p, grad_y, grad_p, t):
                torch.addcmul(of_y, q, of_p, out=h)
                h.addcmul_(q, h.sum(-1, keepdim=True), value=-1).div_(temperature)
        grad_x, grad_noise = (
            d.sum_to_size(shape) if wanted else None
            for shape, wanted in zip(ctx.shapes, ctx.needs_input_grad, strict=False)
        )
        # The scores (x + noise) / t would stand here for y: they equal y up to a constant per row,
        # which drops out because each row of d sums to zero.
        grad_t = -(d * y).sum_to_size(t.shape) if ctx.needs_input_grad[2] else None
        return grad_x, grad_noise, grad_t, None


# This leaf is an input of the functions below, and tells backward() from torch.autograd.grad:
# backward() runs the nodes of all leaves, torch.autograd.grad only those of the tensors that it is
# called with. So if this leaf's node will run, backward() is running.
EVERYTHING = torch.zeros((), device="cpu", requires_grad=True)
_EVERYTHING_NODE = torch.autograd.graph.get_gradient_edge(EVERYTHING).node


def _asked(value: Tensor) -> bool:
    """Whether the backward pass that is running may be asked for the gradient by a value.

    backward() fills only leaves, tensors that retain their gradient, and hooks. What
    torch.autograd.grad was called with can't be seen, so the answer is then True.
    """
    return (
        value.is_leaf
        or value.retains_grad
        or bool(value._backward_hooks)
        or not torch._C._will_engine_execute_node(_EVERYTHING_NODE)  # in torch.autograd.grad
    )


def _split(g: Tensor, y: Tensor, value: Tensor, one_hot: bool) -> tuple[Tensor, Tensor]:
    """Split the gradient g by the log (or logit) y in two: the gradients by y and by the value.

    The gradient by the value is g / (dvalue / dy), clamped to finite numbers. The value's own graph
    passes it on to y, multiplied by dvalue / dy. The gradient by y is what is left of g, so that
    the parameters get g once in total.
    """
    if one_hot:
        slope = passed_on = y.exp()
    else:
        p = y.sigmoid()
        # Two ways to write dvalue / dy: the slope keeps its digits where p is near 1; passed_on
        # rounds as sigmoid's own backward pass does.
        slope, passed_on = p * (-y).sigmoid(), p * (1 - p)
    finfo = torch.finfo(value.dtype)
    grad_value = (g / slope.clamp(min=finfo.tiny)).clamp(finfo.min, finfo.max).to(value.dtype)
    return g - passed_on * grad_value.to(y.dtype), grad_value


class Linked(Function):
    """The log (or logit) y behind a value, with a gradient by the value where one is asked for."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, one_hot: bool, value: Tensor, everything: Tensor) -> Tensor:
        return y.view_as(y)

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
        grad_y, grad_value = _split(g, y, value, ctx.one_hot)
        return grad_y, None, grad_value, None


def linked(y: Tensor, value: Tensor, one_hot: bool) -> Tensor:
    """The log (or logit) y behind a value, with a gradient by the value where one may be asked for.

    The result's ``_link`` is the value: the kernel of an own sample's density needs it to know
    whether the gradient by the value is asked for.
    """
    if not value.requires_grad:
        return y
    if eager():
        new: Tensor = Linked.apply(y, one_hot, value, EVERYTHING)
        new._link, new._all_finite = value, getattr(y, "_all_finite", False)  # type: ignore[attr-defined]
        return new
    # Autograd functions can't be used here. If y has a graph, the gradient goes through y alone; if
    # y has none, a zero is added that has the gradient by the value.
    if y.requires_grad:
        return y
    slope = y.exp() if one_hot else y.sigmoid() * (-y).sigmoid()
    share = value.to(y.dtype) / slope.clamp(min=torch.finfo(y.dtype).tiny)  # the slope underflows
    return y + (share - share.detach())


class Own(Function):
    """The scores of an own sample, whose gradient is None unless the value's is asked for.

    The scores are the noise up to a constant per row, so their gradient by the parameters is zero
    in total; their gradient by the value is not.
    """

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
    """sum(log_softmax(x - t y) - y) over a row; without the last y unless ``simplex``.

    If ``own``, y was drawn with these very x and t. The scores x - t y then are the noise up to a
    constant per row, so that their gradient by the parameters is zero in total, and the gradient
    by y is the one of the last y alone. The whole gradient is computed only where the gradient by
    ``value``, which y stands behind, is asked for.
    """

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
        # For an own y without a value the gradient needs none of them. Saved tensors would raise
        # an error in backward if the user wrote to them in place.
        if not ctx.own or ctx.value is not None:
            ctx.save_for_backward(*given)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        g = g[..., None]
        grad_last = -g if ctx.simplex else torch.zeros_like(g)  # through the last y
        grads: list[Any] = [None, None, grad_last]
        asked = ctx.value is not None and _asked(ctx.value)
        if asked or not ctx.own:
            x, t, y = ctx.saved_tensors
            scores = x - t * y
            if torch.is_grad_enabled() or transformed():
                p = torch.softmax(scores, -1)
            else:
                p = scores.div_(_shift(scores, scores))
            d = g - g * y.shape[-1] * p  # the gradient by the scores
            grads = [d, -d * y if ctx.needs_input_grad[1] else None, grad_last - t * d]
        return (
            *(
                x.expand(ctx.whole).sum_to_size(shape) if wanted and x is not None else None
                for x, shape, wanted in zip(grads, ctx.shapes, ctx.needs_input_grad, strict=False)
            ),
            None,
            None,
            None,
            None,
        )


class LogisticTerms(Function):
    """d - 2 softplus(d) with d = x - t y; plus 2 softplus(y) - y if the density is on (0, 1)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
        d = x - t * y
        # Above torch's default threshold of 20, softplus(d) is d: in double off by 2e-9.
        terms = torch.sub(d, softplus(d, threshold=40), alpha=2)
        return torch.add(terms - y, softplus(y, threshold=40), alpha=2) if unit else terms

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *given, ctx.unit = inputs
        ctx.save_for_backward(*given)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, t, y = given = ctx.saved_tensors
        grad_d = -g * torch.tanh((x - t * y) / 2)
        grad_y = g * torch.tanh(y / 2) - t * grad_d if ctx.unit else -t * grad_d
        grads = grad_d, -grad_d * y if ctx.needs_input_grad[1] else None, grad_y
        return (
            *(
                grad.sum_to_size(z.shape) if wanted and grad is not None else None
                for grad, z, wanted in zip(grads, given, ctx.needs_input_grad, strict=False)
            ),
            None,
        )
