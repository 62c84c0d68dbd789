"""Autograd functions for a draw and its density (long: each has its gradient written out).

Autograd would save a tensor for each operation, and its backward pass would go through memory once
for each of them. These functions save only their inputs or their outputs.

A drawn value keeps its log (or logit) y behind it. The density is computed from y, and its gradient
reaches the parameters through y, which stays exact where the value underflows. Autograd then
doesn't know that the density depends on the value. So the value is an input of these functions
too, and its gradient is computed only where the user asks for that.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from relaxed_dists._distributions.formulas import HUGE

from . import by_operations, by_triton, compiled
from .compiled.load import BY_TRITON
from .seed import Seed
from .state import eager, transformed


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


def way(*tensors: Tensor | None) -> ModuleType:
    """The module that computes: compiled or Triton's kernels where they can, else operations."""
    if BY_TRITON and all(x is None or by_triton.usable(x) for x in tensors):
        return by_operations if transformed() else by_triton
    for x in tensors:
        if x is not None and not compiled.usable(x):
            return by_operations
    return by_operations if transformed() else compiled


def way_back(*tensors: Tensor | None) -> ModuleType:
    """The module that computes gradients; those that are differentiated again need operations."""
    return by_operations if torch.is_grad_enabled() else way(*tensors)


def _summed(ctx: Any, *gradients: Tensor | None) -> list[Tensor | None]:
    """The gradients that are wanted, summed to the shapes of the inputs."""
    found: list[Tensor | None] = []
    for x, wanted, shape in zip(gradients, ctx.needs_input_grad, ctx.shapes, strict=False):
        if x is not None and wanted:
            found.append(x if x.shape == shape else x.sum_to_size(shape))
        else:
            found.append(None)
    return found


class Draw(Function):
    """log_softmax((x + noise) / t), and its exponential or, if ``hard``, the one-hot argmax.

    Both values have the gradient of the soft one. If not ``log``, the first is None; the value is
    then soft, and t has no gradient.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        noise: Tensor | Seed,
        t: Tensor,
        hard: bool,
        log: bool = True,
        own: list[compiled.Own] | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        given = noise if isinstance(noise, Tensor) else None
        return way(x, given, t).draw(x, noise, t, hard, log, own)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        x, noise, t, ctx.hard = inputs[:4]
        ctx.shapes = x.shape, noise.shape, t.shape
        ctx.save_for_backward(t, output[0], None if ctx.hard else output[1])

    @staticmethod
    def backward(ctx: Any, by_y: Tensor | None, by_value: Tensor | None) -> tuple[Any, ...]:
        t, y, p = ctx.saved_tensors
        back = way_back(t, y, p, by_y, by_value).draw_back
        dx, dt = back(y, p, t, by_y, by_value, ctx.needs_input_grad[2])
        return *_summed(ctx, dx, dx, dt), None, None, None


class BinaryDraw(Function):
    """The logit (x + noise) / t, and its sigmoid or, if ``hard``, 1 where x + noise is positive.

    Both values have the gradient of the soft one.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool) -> tuple[Tensor, Tensor]:
        given = noise if isinstance(noise, Tensor) else None
        return way(x, given, t).binary_draw(x, noise, t, hard)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        x, noise, t, _ = inputs
        ctx.shapes = x.shape, noise.shape, t.shape
        ctx.save_for_backward(t, output[0])

    @staticmethod
    def backward(ctx: Any, by_y: Tensor | None, by_value: Tensor | None) -> tuple[Any, ...]:
        t, y = ctx.saved_tensors
        back = way_back(t, y, by_y, by_value).binary_draw_back
        dx, dt = back(y, t, by_y, by_value, ctx.needs_input_grad[2])
        return *_summed(ctx, dx, dx, dt), None


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
    slope = y.exp() if one_hot else y.sigmoid() * (-y).sigmoid()
    finfo = torch.finfo(value.dtype)
    grad_value = (g / slope.clamp(min=finfo.tiny)).clamp(finfo.min, finfo.max).to(value.dtype)
    return g - slope * grad_value.to(y.dtype), grad_value


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
    """The log (or logit) y behind a value, with a gradient by the value if one may be asked for."""
    if not value.requires_grad:
        return y
    if eager():
        new: Tensor = Linked.apply(y, one_hot, value, EVERYTHING)
        return new
    # Autograd functions can't be used here. If y has a graph, the gradient goes through y alone; if
    # y has none, a zero is added that has the gradient by the value.
    if y.requires_grad:
        return y
    slope = y.exp() if one_hot else y.sigmoid() * (-y).sigmoid()
    share = value.to(y.dtype) / slope.clamp(min=torch.finfo(y.dtype).tiny)  # the slope underflows
    return y + (share - share.detach())


class Density(Function):
    """The log density of log values y, in log space or, if ``simplex``, on the simplex.

    If ``own``, y was drawn with these very x and t. The scores x - t y then are the noise up to a
    constant per row, so that their gradient by the parameters is zero in total, and the gradient
    by y is the one of the change of variables alone. The whole gradient is computed only where the
    gradient by ``value``, which y stands behind, is asked for. ``drawn`` is the density, if it was
    computed with the draw.
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
        drawn: compiled.Own | None = None,
    ) -> Tensor:
        if drawn is not None:
            return drawn.log_prob.clone()
        found = way(x, t, y)
        if own and found is by_operations:
            return by_operations.own_density(x, t, y)
        density: Tensor = found.density(x, t, y, simplex)
        return density

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, t, y, ctx.simplex, ctx.own = inputs[:5]
        ctx.value = inputs[5] if len(inputs) > 5 else None
        ctx.shapes = x.shape, t.shape, y.shape
        # For an own y without a value the gradient needs at most t. Saved tensors would raise an
        # error in backward if the user wrote to them in place.
        if not ctx.own or ctx.value is not None:
            ctx.save_for_backward(x, t, y)
        elif ctx.needs_input_grad[1]:
            ctx.save_for_backward(t)
        drawn = inputs[7] if len(inputs) > 7 else None
        if drawn is not None:
            all_finite = not drawn.masked
        elif x.is_cpu:
            all_finite = ctx.own and way(x) is compiled and not compiled.look(x, True)
        else:
            # On a GPU the draw's backward pass, where the gradient by y goes, does the masking.
            all_finite = not ctx.needs_input_grad[1]
        ctx.unmasked = None if all_finite or not ctx.own else x.abs() < HUGE

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        asked = ctx.value is not None and _asked(ctx.value)
        if asked or not ctx.own:
            x, t, y = ctx.saved_tensors
            if asked and torch.is_grad_enabled():  # for a second derivative
                y = Linked.apply(y, True, ctx.value, EVERYTHING)
            back = way_back(x, t, y, g).density_back
            dx, dt, dy = back(x, t, y, g, ctx.simplex, ctx.needs_input_grad[:3])
            by_value = None
            if asked:
                dy, by_value = _split(dy, y, ctx.value, True)
            return *_summed(ctx, dx, dt, dy), None, None, by_value, None, None
        by_y = -g[..., None].expand(ctx.shapes[2]) if ctx.simplex else None
        number: Any = ctx.shapes[2][-1]
        if ctx.unmasked is not None:
            number = ctx.unmasked.sum(-1)
            by_y = None if by_y is None else torch.where(ctx.unmasked, by_y, 0.0)
        t = ctx.saved_tensors[len(ctx.saved_tensors) // 2] if ctx.needs_input_grad[1] else None
        by_t = None if t is None else g * (number - 1) / t
        return *_summed(ctx, None, by_t, by_y), None, None, None, None, None


class BinaryDensity(Function):
    """The log density of logits y; on (0, 1) if ``unit``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
        return way(x, t, y).binary_density(x, t, y, unit)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *given, ctx.unit = inputs
        ctx.shapes = [x.shape for x in given]
        ctx.save_for_backward(*given)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        given = ctx.saved_tensors
        back = way_back(*given, g).binary_density_back
        return *_summed(ctx, *back(*given, g, ctx.unit, ctx.needs_input_grad[:3])), None


class Mass(Function):
    """sum_k value_k log p_k, by a compiled kernel."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Tensor) -> Tensor:
        return way(x, value).mass(x, value)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.shapes = [x.shape for x in inputs]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, value = ctx.saved_tensors
        return (*_summed(ctx, *way_back(x, value, g).mass_back(x, value, g, ctx.needs_input_grad)),)


class LogP(Function):
    """log_softmax(x), by torch's operations; -inf for masked categories."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return by_operations.log_p(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (logs,) = ctx.saved_tensors
        return by_operations.log_p_back(logs, g)


class Weighted(Function):
    """sum_k value_k log p_k, by torch's operations: the mass, whose backward pass has the logs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logs: Tensor, value: Tensor) -> Tensor:
        return by_operations.weighted(logs, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.shapes = [x.shape for x in inputs]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        logs, value = ctx.saved_tensors
        back = by_operations.weighted_back(logs, value, g, ctx.needs_input_grad)
        return (*_summed(ctx, *back),)


def mass(x: Tensor, value: Tensor) -> Tensor:
    """sum_k value_k log p_k, with its gradient."""
    if way(x, value) is by_operations:
        by_ops: Tensor = Weighted.apply(LogP.apply(x), value)
        return by_ops
    by_kernel: Tensor = Mass.apply(x, value)
    return by_kernel
