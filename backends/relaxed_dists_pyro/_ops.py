"""torch's operations for the formulas, and its noise."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Size, Tensor
from torch.nn.functional import softplus

from relaxed_dists import _errors, _formulas, _permutation

from ._input import known
from ._softmax import Function, Softmaxes, SumLogSoftmax, eager

MANY = 2**14  # random integers from which on a generator of their own is faster
CHUNK = 2**15  # elements at a time in an integral: temporaries that malloc does not give back


class _TorchOps:
    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    log1p = staticmethod(torch.log1p)
    lgamma = staticmethod(torch.lgamma)
    digamma = staticmethod(torch.digamma)
    expm1 = staticmethod(torch.expm1)
    stop_gradient = staticmethod(torch.detach)

    def slope(self, logits: Tensor, p: Tensor) -> Tensor:
        return cast(Tensor, _Slope.apply(logits, p))

    def softplus(self, x: Tensor) -> Tensor:
        # torch's own threshold of 20 is for float32: in double its log1p(exp(-20)) is 2e-9.
        return softplus(x, threshold=40)

    def log_softmax(self, x: Tensor) -> Tensor:
        return torch.log_softmax(x, -1)

    def softmaxes_at(self, x: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        if eager():
            return cast(tuple[Tensor, Tensor], Softmaxes.apply(x, temperature))
        y = torch.log_softmax(x / temperature, -1)
        return y, y.exp()

    def sum_log_softmax(self, x: Tensor, less: Tensor | float) -> Tensor:
        if eager():
            return cast(Tensor, SumLogSoftmax.apply(x, less))
        return (torch.log_softmax(x, -1) - less).sum(-1)

    def plain(self, x: Tensor) -> bool:
        # Of a GPU the answer would have to be waited for.
        if not known(x) or x.device.type != "cpu" or not x.numel():
            return False
        low, high = torch.aminmax(x.detach())
        return low.item() > -_formulas.HUGE and high.item() < _formulas.HUGE

    def sum(self, x: Tensor) -> Tensor:
        return x.sum(-1)

    def where(self, condition: Tensor | bool, x: Any, y: Tensor | float) -> Tensor:
        return cast(Tensor, x if condition is True else torch.where(cast(Tensor, condition), x, y))

    def clip(self, x: Tensor, low: float, high: float) -> Tensor:
        return torch.clip(x, low, high)

    def stack(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, y], -1)

    def one_hot_argmax(self, x: Tensor) -> Tensor:
        # Not torch's one_hot, which vmap of grad can't map.
        return torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), 1.0)

    def top(self, x: Tensor, k: int) -> Tensor:
        return torch.zeros_like(x).scatter(-1, x.topk(k).indices, 1.0)

    def matching(self, x: Tensor) -> Tensor:
        return _matching(x)

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
        # As many points at a time as keep the work in the cache: memory does not grow with them.
        size = len(points) if torch.compiler.is_compiling() else 1 + CHUNK // (1 + like.numel())
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
        # In double: float32 products may be set to be rounded, to bfloat16 or TF32.
        return torch.tensordot(x.double(), y.double(), 1).to(x.dtype)

    def scan(self, step: Callable[..., Any], start: Any, values: Any, number: int) -> Any:
        outs = []
        for i in reversed(range(number)):
            start, out = step(start, None if values is None else values[i])
            outs.append(out)
        return start, torch.stack(outs) if outs[0] is not None else None

    def with_gradient(
        self, function: Callable[..., list[Tensor | None]], *arguments: Tensor
    ) -> Tensor:
        if torch.compiler.is_compiling():  # which can't take a Function whose argument is one
            return cast(Tensor, function([False] * len(arguments), *arguments)[0])
        return _WithGradient.apply(function, *arguments)[0]


def _take(table: Tensor, index: Tensor) -> Tensor:
    if table.dim() == 2:  # one row for all
        return table.index_select(1, index.reshape(-1)).reshape(len(table), *index.shape)
    ones = (1,) * (index.dim() + 1 - table.dim())
    table = table.reshape(len(table), *ones, *table.shape[1:])
    table = table.expand(len(table), *index.shape[:-1], table.shape[-1])
    return table.gather(-1, index.expand(len(table), *index.shape))


class _WithGradient(Function):
    """A value and its gradients in one pass; nothing else is kept for the way back."""

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
        if torch.is_grad_enabled():  # for a second derivative
            gradients = ctx.function(wanted, *arguments)[1:]
        totals: list[Tensor | None] = [None]
        for i, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
            part = (g if i else g[..., None]) * gradient if wanted[i] else None
            totals.append(None if part is None else part.sum_to_size(argument.shape))
        return tuple(totals)


class _Slope(Function):
    """Zeros with the derivative diag(p) - p p^T, and no second one."""

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
        # For a second derivative, which torch.compile has none of anyway.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            p = _Once.apply(p)
        return (p * (g - (p * g).sum(-1, keepdim=True))).sum_to_size(ctx.shape), None


class _Once(Function):
    """The same numbers, which can't be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        raise NotImplementedError(_errors.NO_SECOND)


@torch.library.custom_op("relaxed_dists::matching", mutates_args=())
def _matching(x: Tensor) -> Tensor:
    return torch.as_tensor(_permutation.assignment(x.detach().cpu().numpy())).to(x)


@_matching.register_fake
def _matching_fake(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_matching.register_vmap
def _matching_vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
    return _matching(x.movedim(in_dims[0], 0)), 0


ops = _TorchOps()


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: float32 in place of the halves, whose tails are wrong outright."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _bits(number: int, device: torch.device, key: torch.Generator | None) -> Tensor:
    """Random 64-bit integers."""
    # No generator=None: torch.compile can't trace that overload with dynamic shapes.
    given: Any = {"device": device} if key is None else {"device": device, "generator": key}
    if number > MANY and device.type == "cpu":
        # NumPy's generator, with a seed from torch's, takes less than half of its time.
        seed = torch.randint(2**63 - 1, (), **given)
        if known(seed):
            bits = np.random.SFC64(int(seed.item())).random_raw(number)
            return torch.from_numpy(bits.view(np.int64))
    return torch.randint(-(2**63), 2**63 - 1, (number,), **given)


def _words(shape: Size, like: Tensor, key: torch.Generator | None) -> Tensor:
    """32 random bits a number, and a word more; in float32, from -2^31 to 2^31."""
    bits = _bits(shape.numel() // 2 + 1, like.device, key)
    return bits.view(torch.int32)[: shape.numel() + 1].to(torch.float32)


def _size(words: Tensor, shape: Size) -> Tensor:
    """Uniform on (0, 1) from words, in float32, with all its digits near zero, down to 2^-62."""
    # Below a word's own bits come those of its neighbour: they matter where it is small, as it is
    # once in 2^24. A uniform on a grid of 2^-24 would cut the Gumbel tail at 16.6.
    size = words.abs()
    size = torch.add(size[:-1], size[1:], alpha=2.0**-31).mul_(2.0**-31)
    # An upper end of 1 would have an infinite log1p(-u). Not clamp_, which vmap does row by row.
    return size.clamp(2.0**-62, 1 - 2.0**-24).reshape(shape)


def _double(shape: Size, like: Tensor, key: torch.Generator | None) -> Tensor:
    """The same in double, whose digits near zero float32 keeps."""
    given: Any = {} if key is None else {"generator": key}
    u = torch.rand(shape, dtype=torch.float64, device=like.device, **given)
    return u.clamp(min=2.0**-54)


def _single(like: Tensor) -> bool:
    # torch.jit can't trace a view as another type.
    return like.dtype == torch.float32 and not torch._C._get_tracing_state()


def gumbel(shape: Size, like: Tensor, key: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise of like's dtype and device, with an exact upper tail."""
    if _single(like):
        u = _size(_words(shape, like, key), shape)
    else:  # a double just below 1 rounds to 1 in float32
        u = _double(shape, like, key).to(like.dtype).clamp(max=1 - torch.finfo(like.dtype).eps / 2)
    return u.neg_().log1p_().neg_().log_().neg_()


def logistic(shape: Size, like: Tensor, key: torch.Generator | None = None) -> Tensor:
    """Standard logistic noise of like's dtype and device, with both tails exact."""
    if not _single(like):
        return torch.logit(_double(shape, like, key)).to(like.dtype)
    # log((1 - u / 2) / (u / 2)) is the size, whose tail is that of u near zero; and a sign.
    words = _words(shape, like, key)
    size = _size(words, shape).reciprocal_().mul_(2.0).sub_(1.0).log_()
    return size.copysign_(words[:-1].reshape(shape))
