"""Autograd functions for a draw and its density (long: each has its gradient written out).

Autograd would save a tensor for each operation, and its backward pass would go through memory once
for each of them. These functions save only their inputs or their outputs.

A drawn value keeps its log y, or its logit y if it is binary. The density is computed from y, which
stays exact where the value underflows, and the density's gradient reaches the parameters through y.
Autograd then doesn't know that the density depends on the value. So ``Linked`` and
``LinkedDensity`` have the value as an input too, and compute the gradient with respect to the value
where the user asks for it.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from relaxed_dists._distributions.formulas import HUGE

from . import by_operations, by_operator, by_triton, compiled
from .compiled.load import BY_TRITON
from .seed import Seed
from .state import compiling, eager, transformed


class Function(torch.autograd.Function):
    """An autograd function with setup_context, as torch.func needs it, and a faster ``apply``."""

    @classmethod
    def apply(cls, *given: Any) -> Any:
        """The result of ``forward``, with its gradient."""
        if transformed():
            return super().apply(*given)
        # torch's own apply binds the arguments by inspect.signature, which takes as long as the
        # arithmetic of 2,000 elements.
        return super(torch.autograd.Function, cls).apply(*given)  # type: ignore[misc]


def way(*tensors: Tensor | None) -> ModuleType:
    """The module with kernels that can compute with these tensors, or else by_operations."""
    if compiling():
        return by_operator if by_operator.takes(*tensors) else by_operations
    if BY_TRITON and all(x is None or by_triton.usable(x) for x in tensors):
        return by_operations if transformed() else by_triton
    for x in tensors:
        if x is not None and not compiled.usable(x):
            return by_operations
    return by_operations if transformed() else compiled


def way_back(*tensors: Tensor | None) -> ModuleType:
    """The module that computes gradients: by_operations if they will be differentiated again."""
    return by_operations if torch.is_grad_enabled() else way(*tensors)


def _way_of(noise: Tensor | Seed, *tensors: Tensor) -> ModuleType:
    """The module that draws: the seed's module, or the way for noise that is already drawn."""
    return noise.kernels if isinstance(noise, Seed) else way(noise, *tensors)


def _summed(gradient: Tensor | None, shape: torch.Size, wanted: bool = True) -> Tensor | None:
    """A gradient summed to the shape of its input, if it is wanted."""
    if gradient is None or not wanted:
        return None
    return gradient if gradient.shape == shape else gradient.sum_to_size(shape)


class Draw(Function):
    """A log value y = log_softmax((x + noise) / t), and the value.

    The value is exp(y) or, if ``hard``, the one-hot argmax with the gradient of exp(y). If not
    ``log``, y is None; then only a soft value has a gradient, and not with respect to t. If
    ``own``, a third result is the log density of the draw on the simplex; the noise must then be a
    seed for the compiled kernels.

    With K unmasked categories, this density is
    log (K - 1)! + (K - 1) log t + sum(log_softmax(x - t y)) - sum(y). Since x - t y is minus the
    noise, up to a constant per row that log_softmax removes, the first sum does not change with the
    parameters. So the gradient is that of (K - 1) log t - sum(y).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        noise: Tensor | Seed,
        t: Tensor,
        hard: bool,
        log: bool = True,
        own: bool = False,
    ) -> tuple[Any, ...]:
        draw, more = _way_of(noise, x, t).draw, {"own": True} if own else {}
        found: tuple[Any, ...] = draw(x, noise, t, hard, log, **more)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.set_materialize_grads(False)
        x, noise, t, hard = inputs[:4]
        # An operator that makes its noise from a seed gets None in place of noise.
        ctx.shapes = x.shape, None if noise is None else noise.shape, t.shape
        ctx.save_for_backward(t, output[0], None if hard else output[1])

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        t, y, p = ctx.saved_tensors
        by_x, by_noise, by_t, *_ = ctx.needs_input_grad
        by_y, by_value, *by_own = given
        back = way_back(y if p is None else p, *given).draw_back
        dx, dt = back(y, p, t, by_y, by_value, by_t, *by_own)
        x_shape, noise_shape, t_shape = ctx.shapes
        dx, dn = _summed(dx, x_shape, by_x), _summed(dx, noise_shape, by_noise)
        return dx, dn, _summed(dt, t_shape), None, None, None


class BinaryDraw(Function):
    """A logit y = (x + noise) / t, and the value.

    The value is sigmoid(y) or, if ``hard``, 1 where x + noise is positive and 0 elsewhere, with the
    gradient of sigmoid(y).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, noise: Tensor | Seed, t: Tensor, hard: bool, log: bool = True
    ) -> tuple[Any, ...]:
        found: tuple[Any, ...] = _way_of(noise, x, t).binary_draw(x, noise, t, hard, log)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        x, noise, t = inputs[:3]
        ctx.shapes = x.shape, None if noise is None else noise.shape, t.shape
        ctx.save_for_backward(t, output[0])

    @staticmethod
    def backward(ctx: Any, by_y: Tensor | None, by_value: Tensor | None) -> tuple[Any, ...]:
        t, y = ctx.saved_tensors
        by_x, by_noise, by_t, *_ = ctx.needs_input_grad
        dx, dt = way_back(y, by_y, by_value).binary_draw_back(y, t, by_y, by_value, by_t)
        x_shape, noise_shape, t_shape = ctx.shapes
        dx, dn = _summed(dx, x_shape, by_x), _summed(dx, noise_shape, by_noise)
        return dx, dn, _summed(dt, t_shape), None, None


# This leaf is an input of Linked and LinkedDensity. From it they see whether the user has called
# backward(), which runs the nodes of all leaves, or torch.autograd.grad, which runs only those of
# the tensors that it is called with. So if this leaf's node will run, it is backward().
EVERYTHING = torch.zeros((), device="cpu", requires_grad=True)
_EVERYTHING_NODE = torch.autograd.graph.get_gradient_edge(EVERYTHING).node


def _asked(value: Tensor) -> bool:
    """Whether the running backward pass may need the gradient with respect to a value.

    backward() hands gradients only to leaves, to tensors that retain their gradient, and to hooks.
    In torch.autograd.grad the answer is always True, since the tensors that the user has called it
    with can't be seen.
    """
    return (
        value.is_leaf
        or value.retains_grad
        or bool(value._backward_hooks)
        or not torch._C._will_engine_execute_node(_EVERYTHING_NODE)  # torch.autograd.grad
    )


def _split(g: Tensor, y: Tensor, value: Tensor, one_hot: bool) -> tuple[Tensor, Tensor]:
    """Split g, the gradient with respect to the log (or logit) y, between y and the value.

    The value gets g / (dvalue / dy), clamped to finite numbers. The value's own graph passes this
    gradient on to y, multiplied by dvalue / dy. Here y gets the rest of g, so that in total g
    reaches the parameters once.
    """
    slope = y.exp() if one_hot else y.sigmoid() * (-y).sigmoid()
    finfo = torch.finfo(value.dtype)
    grad_value = (g / slope.clamp(min=finfo.tiny)).clamp(finfo.min, finfo.max).to(value.dtype)
    return g - slope * grad_value.to(y.dtype), grad_value


class Linked(Function):
    """y, the log (or logit) of a value. Its gradient is passed on to the value too if asked for."""

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
    """y, the log (or logit) of a value. Its gradient is passed on to the value too if needed."""
    if not value.requires_grad:
        return y
    if eager():
        new: Tensor = Linked.apply(y, one_hot, value, EVERYTHING)
        return new
    # Autograd functions can't be used here. If y has a graph, the gradient goes through y alone. If
    # it has none, a zero is added that passes the gradient on to the value.
    if y.requires_grad:
        return y
    slope = y.exp() if one_hot else y.sigmoid() * (-y).sigmoid()
    share = value.to(y.dtype) / slope.clamp(min=torch.finfo(y.dtype).tiny)  # a slope may underflow
    return y + (share - share.detach())


class LinkedDensity(Function):
    """The density of a value at the very parameters that it was drawn with.

    The graph of ``density`` gives the parameters their total gradient. If the gradient with respect
    to the value is asked for, the value's graph passes that on to the parameters too, in addition
    to the total. So y gets a gradient that cancels the addition.
    """

    # There is no setup_context, since it takes time, and this function is not used under
    # torch.func's transforms, which alone require it.
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, y: Tensor, value: Tensor, everything: Tensor, x: Any, t: Any
    ) -> Tensor:
        ctx.value = value
        ctx.save_for_backward(y, x, t)
        return density.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if not _asked(ctx.value):
            return g, None, None, None, None, None
        y, x, t = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            y = Linked.apply(y, True, ctx.value, EVERYTHING)
        _, _, dy = way_back(x, t, y, g).density_back(x, t, y, g, True, (False, False, True))
        rest, by_value = _split(dy, y, ctx.value, True)
        return g, rest - dy, by_value, None, None, None


class Density(Function):
    """The log density of log values y, in log space or, if ``simplex``, on the simplex.

    If ``own``, y was drawn with these very x and t. The gradient is then that of the density that
    ``Draw`` returns: (K - 1) / t for t, -1 for each entry of y, and none for x.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor, y: Tensor, simplex: bool, own: bool) -> Tensor:
        found = way(x, t, y)
        if own and found is by_operations:
            return by_operations.own_density(x, t, y)
        density: Tensor = found.density(x, t, y, simplex)
        return density

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, t, y, ctx.simplex, ctx.own = inputs
        ctx.shapes = x.shape, t.shape, y.shape
        if not ctx.own:
            ctx.save_for_backward(x, t, y)
        elif ctx.needs_input_grad[1]:
            # x is not saved, since the backward pass raises an error if the user writes to a saved
            # tensor in place. It needs only the number of unmasked categories, or 1 if there are
            # none.
            ctx.save_for_backward(t)
            ctx.number = (x.abs() < HUGE).sum(-1).clamp(min=1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x_shape, t_shape, y_shape = ctx.shapes
        wanted = ctx.needs_input_grad[:3]
        if ctx.own:
            dt = None
            if wanted[1]:
                (t,) = ctx.saved_tensors
                dt = _summed(g * (ctx.number - 1) / t, t_shape)
            # Masked entries of y get -1 too: the backward pass of the draw leaves them out.
            return None, dt, -g[..., None].expand(y_shape), None, None
        x, t, y = ctx.saved_tensors
        dx, dt, dy = way_back(x, t, y, g).density_back(x, t, y, g, ctx.simplex, wanted)
        return _summed(dx, x_shape), _summed(dt, t_shape), _summed(dy, y_shape), None, None


class BinaryDensity(Function):
    """The log density at a logit y or, if ``unit``, at the number sigmoid(y) in (0, 1)."""

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
        found = back(*given, g, ctx.unit, ctx.needs_input_grad[:3])
        return *map(_summed, found, ctx.shapes, ctx.needs_input_grad[:3]), None


class Mass(Function):
    """sum_k value_k log p_k, and log p if the backward pass needs it, else None."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Tensor) -> tuple[Tensor, Tensor | None]:
        found: tuple[Tensor, Tensor | None] = way(x, value).mass(x, value)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.shapes = [x.shape for x in inputs]
        logs = output[1]
        if logs is not None:
            ctx.mark_non_differentiable(logs)
        ctx.save_for_backward(*inputs, logs)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if g is None:
            return None, None
        x, value, logs = ctx.saved_tensors
        # The saved logs have no graph, so they are computed anew for a second derivative.
        logs = None if torch.is_grad_enabled() else logs
        found = way_back(x, value, g).mass_back(x, value, g, ctx.needs_input_grad, logs)
        return (*map(_summed, found, ctx.shapes),)


class BinaryMass(Function):
    """value log p + (1 - value) log(1 - p), for finite logits, by operations of torch."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Tensor) -> Tensor:
        return by_operations.binary_mass(x, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, value = ctx.saved_tensors
        found = by_operations.binary_mass_back(x, value, g, ctx.needs_input_grad)
        return (*map(_summed, found, (x.shape, value.shape)),)
