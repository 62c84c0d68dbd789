"""torch's array operations, with which the formulas for both frameworks compute."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import softplus

from relaxed_dists import _errors
from relaxed_dists._distributions import permutation

from .autograd import Function
from .by_operations import one_hot
from .state import compiling, forward_mode

# The most elements of an integral's temporary arrays. malloc would return larger ones to the system
# each time, which is slow.
CHUNK = 2**15


class _TorchOps:
    def __init__(self) -> None:
        self.kernels: dict[str, Callable[..., Any]] = {}  # kernels.py and others add theirs

    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    log1p = staticmethod(torch.log1p)
    lgamma = staticmethod(torch.lgamma)
    digamma = staticmethod(torch.digamma)
    expm1 = staticmethod(torch.expm1)
    sigmoid = staticmethod(torch.sigmoid)
    stop_gradient = staticmethod(torch.detach)

    def slope(self, logits: Tensor, p: Tensor) -> Tensor:
        forward = not compiling() and forward_mode()
        return cast(Tensor, (_ForwardSlope if forward else _Slope).apply(logits, p))

    def softplus(self, x: Tensor) -> Tensor:
        # Above its default threshold of 20 torch's softplus returns x, wrong by 2e-9 in double.
        return softplus(x, threshold=40)

    def log_softmax(self, x: Tensor) -> Tensor:
        return torch.log_softmax(x, -1)

    def sum(self, x: Tensor) -> Tensor:
        return x.sum(-1)

    def where(self, condition: Tensor, x: Any, y: Tensor | float) -> Tensor:
        found = torch.where(condition, x, y)
        # Of two numbers torch makes a tensor of the default dtype, which may be any.
        return found if isinstance(x, Tensor) or isinstance(y, Tensor) else found.float()

    def clip(self, x: Tensor, low: float, high: float) -> Tensor:
        return torch.clip(x, low, high)

    def stack(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, y], -1)

    def one_hot_argmax(self, x: Tensor) -> Tensor:
        return one_hot(x)

    def top(self, x: Tensor, k: int) -> Tensor:
        return torch.zeros_like(x).scatter(-1, x.topk(k).indices, 1.0)

    def matching(self, x: Tensor) -> Tensor:
        matched: Tensor = _matching(x.detach())  # the operator has no gradient
        return matched

    def max(self, x: Tensor) -> Tensor:
        return x.amax(-1)

    def constant(self, values: Any, like: Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)

    def is_double(self, x: Tensor) -> bool:
        return x.dtype == torch.float64

    def interpolate(self, tables: list[Tensor], position: Tensor) -> list[Tensor]:
        position = position.clamp(0, tables[0].shape[-1] - 1)
        nearest = position.round()
        place, index = position - nearest, nearest.nan_to_num().to(torch.int64)
        values = []
        for table in tables:
            value, *others = reversed(_take(table, index).unbind())
            for coefficient in others:
                value = torch.addcmul(coefficient, value, place)
            values.append(value)
        return values

    def integrate(
        self, f: Callable[[Tensor], Sequence[Tensor]], points: Any, weights: Any, like: Tensor
    ) -> list[Tensor]:
        # The points are taken in chunks that fit into the cache. So memory does not grow with the
        # number of points.
        size = len(points) if compiling() else 1 + CHUNK // (1 + like.numel())
        t = self.constant(points, like).reshape(-1, *(1,) * like.dim())
        totals: list[Tensor] = []
        for some, w in zip(t.split(size), self.constant(weights, like).split(size), strict=True):
            sums = [(part * w.reshape(-1, *(1,) * (part.dim() - 1))).sum(0) for part in f(some)]
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
        return totals

    def columns(self, x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[-1]).T.contiguous()

    def rows(self, x: Tensor, like: Tensor) -> Tensor:
        return x.T.reshape(like.shape)

    def total(self, x: Tensor) -> Tensor:
        return x.sum(-2, keepdim=True)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        # The product is in double, since the user's settings may let torch round the factors of a
        # product in float32 to bfloat16 or TF32.
        return torch.tensordot(x.double(), y.double(), 1).to(x.dtype)

    def scan(self, step: Callable[..., Any], start: Any, values: Any, number: int) -> Any:
        outs: list[Any] = []
        room: Any = None
        for i in reversed(range(number)):
            start, out = step(start, None if values is None else values[i])
            if out is not None and not out.requires_grad:
                # Small tensors that live on would split the memory that large ones leave, and the
                # next large ones wouldn't fit into it: malloc would take 100 times as much.
                if room is None:
                    room = out.new_empty((number, *out.shape))
                out = room[len(outs)].copy_(out)
            outs.append(out)
        if outs[0] is None:
            return start, None
        # If there are values, the loop went from the last to the first: outs gets their order.
        return start, torch.stack(outs if values is None else outs[::-1])

    def sums(self, basis: Any, a: Tensor, v: Tensor) -> Tensor:
        if compiling() or forward_mode():  # these differentiate the loop itself
            return cast(Tensor, basis.sums(self, a, v))
        return _Sums.apply(basis, a, v)

    def series(self, basis: Any, a: Tensor, c: Tensor) -> Tensor:
        if compiling() or forward_mode():
            return cast(Tensor, basis.series(self, a, c))
        return _Series.apply(basis, a, c)

    def with_gradient(
        self, function: Callable[..., list[Tensor | None]], *arguments: Tensor
    ) -> Tensor:
        none = [False] * len(arguments)
        if compiling() or forward_mode():
            # Autograd differentiates the function itself: torch.compile can't trace a Function
            # whose argument is a function, and the jvp of a Function has no second derivative. The
            # computation is in double, since the derivative of an interpolation table loses digits.
            wide = [x.double() if x.is_floating_point() else x for x in arguments]
            return cast(Tensor, function(none, *wide)[0]).to(arguments[0].dtype)
        return _WithGradient.apply(function, *arguments)[0]


def _take(table: Tensor, index: Tensor) -> Tensor:
    if table.dim() == 2:  # the same interpolation table for all rows
        return table.index_select(1, index.reshape(-1)).reshape(len(table), *index.shape)
    ones = (1,) * (index.dim() + 1 - table.dim())
    table = table.reshape(len(table), *ones, *table.shape[1:])
    table = table.expand(len(table), *index.shape[:-1], table.shape[-1])
    return table.gather(-1, index.expand(len(table), *index.shape))


class _WithGradient(Function):
    """A value whose gradients the forward pass computes; the backward pass only multiplies."""

    generate_vmap_rule = True

    @staticmethod
    def forward(function: Any, *arguments: Tensor) -> tuple[Tensor, ...]:
        wanted = [x.requires_grad for x in arguments]
        value, *gradients = function(wanted, *arguments)
        return value, *(value.new_empty(0) if x is None else x for x in gradients)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.function = inputs[0]
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs[1:], *output[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        half = len(ctx.saved_tensors) // 2
        arguments, gradients = ctx.saved_tensors[:half], ctx.saved_tensors[half:]
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # a second derivative needs gradients with a graph
            gradients = ctx.function(wanted, *arguments)[1:]
        totals: list[Tensor | None] = [None]
        for i, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
            part = (g if i else g[..., None]) * gradient if wanted[i] else None
            totals.append(None if part is None else part.sum_to_size(argument.shape))
        return tuple(totals)


class _Sums(Function):
    """The sums of a basis, whose derivatives are series; see QuadratureOps.sums."""

    generate_vmap_rule = True

    @staticmethod
    def forward(basis: Any, a: Tensor, v: Tensor) -> Tensor:
        return cast(Tensor, basis.sums(ops, a, v))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, Tensor, Tensor], output: Tensor) -> None:
        ctx.basis = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        basis, (a, v) = ctx.basis, ctx.saved_tensors
        slope = ops.dot(ops.constant(basis.derivative.T, g), g)
        by_v = ops.series(basis, a, g) if ctx.needs_input_grad[2] else None
        return None, v * ops.series(basis, a, slope), by_v


class _Series(_Sums):
    """The series of a basis, whose derivatives are sums and series; see QuadratureOps.series."""

    @staticmethod
    def forward(basis: Any, a: Tensor, c: Tensor) -> Tensor:
        return cast(Tensor, basis.series(ops, a, c))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        basis, (a, c) = ctx.basis, ctx.saved_tensors
        slope = ops.dot(ops.constant(basis.derivative.T, c), c)
        by_c = ops.sums(basis, a, g) if ctx.needs_input_grad[2] else None
        return None, g * ops.series(basis, a, slope), by_c


class _Slope(Function):
    """Zeros whose derivative with respect to the logits is diag(p) - p p^T.

    A second derivative is an error.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, p: Tensor) -> Tensor:
        return torch.zeros_like(p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.shape = inputs[0].shape
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        # A second derivative would be wrong, so _Once raises an error in it. torch.compile refuses
        # second derivatives itself.
        if not compiling() and (torch.is_grad_enabled() or forward_mode()):
            p = _Once.apply(p)
        return (p * (g - (p * g).sum(-1, keepdim=True))).sum_to_size(ctx.shape), None


class _ForwardSlope(_Slope):
    """_Slope with a jvp for forward mode; a separate class, since torch.compile refuses a jvp."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        _Slope.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def jvp(ctx: Any, t: Tensor, _: Tensor | None) -> Tensor:
        p = _Once.apply(ctx.saved_tensors[0])
        return p * (t - (p * t).sum(-1, keepdim=True))


class _Once(Function):
    """The identity, whose derivative raises an error: _Slope has no second derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        raise NotImplementedError(_errors.NO_SECOND)

    @staticmethod
    def jvp(ctx: Any, t: Tensor) -> Tensor:
        raise NotImplementedError(_errors.NO_SECOND)


def _assigned(x: Tensor) -> Tensor:
    return torch.as_tensor(permutation.assignment(x.cpu().numpy())).to(x)


def _assigned_shape(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _assigned_vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
    return _matching(x.movedim(in_dims[0], 0)), 0


# torch.library.custom_op would take several times as long: it reads the source of its caller.
_library = torch.library.Library("relaxed_dists", "FRAGMENT")
_library.define("matching(Tensor x) -> Tensor")
_library.impl("matching", _assigned, "CompositeExplicitAutograd")
_library.impl("matching", _assigned_shape, "Meta")
if hasattr(torch.library, "register_vmap"):  # before torch 2.5 vmap takes one row after the other
    torch.library.register_vmap("relaxed_dists::matching", _assigned_vmap, lib=_library)
_matching: Any = torch.ops.relaxed_dists.matching


ops = _TorchOps()


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: at least float32, since float16 and bfloat16 cut off the tails."""
    dtype = torch.float32
    for tensor in tensors:
        if tensor.dtype is not dtype:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
