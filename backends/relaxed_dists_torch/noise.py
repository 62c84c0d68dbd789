"""torch's noise: Gumbel and logistic, with exact tails."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Size, Tensor

from . import by_triton, compiled
from .seed import Seed, seed
from .state import eager, traced, transformed


def _words(bits: Tensor, number: int) -> Tensor:
    """A word of 32 random bits for each number and one more word, from -2^31 to 2^31."""
    return bits.view(torch.int32)[: number + 1].to(torch.float32)


def _minus_uniform(size: Tensor) -> Tensor:
    """Uniform on (-1, 0), in float32, with all its digits near zero, up to -2^-62."""
    # The bits of the next word are appended to a word's own. They count where the word is small,
    # which is rare; but a uniform on a grid of 2^-24 would cut the Gumbel tail at 16.6.
    size = torch.add(size[:-1], size[1:], alpha=2.0**-31).mul_(-(2.0**-31))
    # log1p(-1) is infinite, so -1 is left out. vmap computes clamp_ row by row, but not clamp.
    return torch.clamp(size, 2.0**-24 - 1, -(2.0**-62))


def _from_words(
    transform: Callable[[Tensor], Tensor], shape: Size, like: Tensor, key: Any
) -> Tensor:
    """Numbers that a transform makes from words of 32 random bits, one word more than numbers."""
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
    """Whether to make the numbers from words of bits: in float32, eager or under torch.compile.

    Exporters can't view a tensor as another dtype, and would fix the number of words and so the
    batch size. On a GPU, double takes a third of the launches.
    """
    compiler = torch.compiler
    compiles = compiler.is_dynamo_compiling() and not compiler.is_exporting()
    return like.dtype == torch.float32 and (compiles or (like.is_cpu and not traced()))


def seed_for(like: Tensor, shape: Size, key: torch.Generator | None) -> Seed | None:
    """The seed of noise of a shape, if kernels can make the noise from it."""
    # eager() comes first, since numel() would fix the batch size of an exported program.
    if not eager() or transformed() or not shape.numel():
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
        # The exponential distribution in double, whose numbers near 0 make the upper tail. On a GPU
        # they are at least 2^-53, never 0.
        given: Any = {} if key is None else {"generator": key}
        e = torch.empty(shape, dtype=torch.float64, device=like.device).exponential_(**given)
        out = torch.empty(shape, dtype=like.dtype, device=like.device)
        return torch.xlogy(-1.0, e, out=out)  # -log(e), in one launch
    # A double just below 1 rounds to 1 in float32.
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
    # The size is log((1 - u / 2) / (u / 2)), whose tail is exact because u is exact near zero. The
    # sign is the word's.
    size = _minus_uniform(words.abs()).reciprocal_().mul_(-2.0).sub_(1.0).log_()
    return size.copysign_(words[:-1])
