"""torch's noise: Gumbel and logistic, with exact tails."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Size, Tensor

from . import by_operator, by_triton, compiled
from .seed import Seed, seed
from .state import eager, exporting, traced, transformed


def _words(bits: Tensor, number: int) -> Tensor:
    """Random words of 32 bits, as floats from -2^31 to 2^31: one for each number, and one more."""
    if transformed():  # torch.func of torch 2.6 can't view a tensor as another dtype
        words = torch.stack([(bits << 32) >> 32, bits >> 32], -1).flatten()
    else:
        words = bits.view(torch.int32)
    return words[: number + 1].to(torch.float32)


def _minus_uniform(size: Tensor) -> Tensor:
    """Uniform numbers on (-1, 0) in float32, from the words' sizes, with all digits near zero."""
    # The bits of the next word are appended to those of a word. They count only where the word is
    # small, which is rare. Without them the Gumbel tail would end at 21.5, and with torch.rand,
    # which has a grid of 2^-24, at 16.6. Now the number nearest to zero is -2^-62.
    size = torch.add(size[:-1], size[1:], alpha=2.0**-31).mul_(-(2.0**-31))
    # The lower limit leaves out -1, where log1p is infinite. The clamp isn't in place, since vmap
    # would compute clamp_ row by row.
    return torch.clamp(size, 2.0**-24 - 1, -(2.0**-62))


def _from_words(
    transform: Callable[[Tensor], Tensor], shape: Size, like: Tensor, key: Any
) -> Tensor:
    """Numbers that ``transform`` makes from random words of 32 bits, one word more than numbers."""
    # generator=None isn't passed: torch.compile can't trace that overload with dynamic shapes.
    given: Any = {"device": like.device} | ({} if key is None else {"generator": key})
    number = shape.numel()
    bits = torch.randint(-(2**63), 2**63 - 1, (number // 2 + 1,), **given)
    return transform(_words(bits, number)).reshape(shape)


def _double(shape: Size, like: Tensor, key: torch.Generator | None) -> Tensor:
    """Uniform on (0, 1) in double, so that float32 noise made from it has exact tails."""
    given: Any = {} if key is None else {"generator": key}
    u = torch.rand(shape, dtype=torch.float64, device=like.device, **given)
    return u.clamp(min=2.0**-54)


def _single(like: Tensor) -> bool:
    """Whether to make noise in float32 from random words; otherwise it is made from doubles.

    Words serve float32 on a CPU, and under torch.compile. In exported programs they don't, since an
    exporter can't view a tensor as another dtype, and would fix the number of words and so the
    batch size. On a GPU, doubles take a third of the launches.
    """
    compiles = torch.compiler.is_dynamo_compiling() and not exporting()
    return like.dtype == torch.float32 and (compiles or (like.is_cpu and not traced()))


def seed_for(like: Tensor, shape: Size, key: torch.Generator | None) -> Seed | None:
    """A new seed, from which kernels make noise of a shape; None if kernels can't be used."""
    # eager() is asked first, since shape.numel() would fix the batch size of an exported program.
    if not eager():
        usable = key is None and by_operator.usable(like)
        return Seed(by_operator.seed(), shape, by_operator) if usable else None
    if transformed() or not shape.numel():
        return None
    kernels: ModuleType = by_triton if by_triton.chosen(like) else compiled
    usable = by_triton.seeds(key) if kernels is by_triton else compiled.usable(like)
    return seed(shape, key, kernels) if usable else None


def gumbel(shape: Size, like: Tensor, key: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise of like's dtype and device, with an exact upper tail."""
    if (number := seed_for(like, shape, key)) is not None:
        drawn: Tensor = number.kernels.gumbel(number, like)
        return drawn
    if _single(like):
        return _from_words(_gumbel, shape, like, key)
    if not like.is_cpu and not traced():
        # e are exponential variables in double. Those near 0 make the upper tail of the noise; on a
        # GPU they are at least 2^-53, never 0.
        given: Any = {} if key is None else {"generator": key}
        e = torch.empty(shape, dtype=torch.float64, device=like.device).exponential_(**given)
        out = torch.empty(shape, dtype=like.dtype, device=like.device)
        return torch.xlogy(-1.0, e, out=out)  # -log(e), in one launch
    # A double just below 1 would round to 1 in float32, where log1p(-u) is infinite.
    u = _double(shape, like, key).to(like.dtype).clamp(max=1 - torch.finfo(like.dtype).eps / 2)
    return u.neg_().log1p_().neg_().log_().neg_()


def _gumbel(words: Tensor) -> Tensor:
    return _minus_uniform(words.abs_()).log1p_().neg_().log_().neg_()


def logistic(shape: Size, like: Tensor, key: torch.Generator | None = None) -> Tensor:
    """Standard logistic noise of like's dtype and device, with both tails exact."""
    if (number := seed_for(like, shape, key)) is not None:
        drawn: Tensor = number.kernels.logistic(number, like)
        return drawn
    if _single(like):
        return _from_words(_logistic, shape, like, key)
    return torch.logit(_double(shape, like, key)).to(like.dtype)


def _logistic(words: Tensor) -> Tensor:
    # With u uniform on (0, 1), the size is log((1 - u / 2) / (u / 2)). Its tail is exact, because u
    # is exact near zero. The sign is that of the word.
    size = _minus_uniform(words.abs()).reciprocal_().mul_(-2.0).sub_(1.0).log_()
    return size.copysign_(words[:-1])
