"""torch's operations for the formulas, and its noise."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus


class _TorchOps:
    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    log1p = staticmethod(torch.log1p)
    softplus = staticmethod(softplus)
    lgamma = staticmethod(torch.lgamma)
    digamma = staticmethod(torch.digamma)
    stop_gradient = staticmethod(torch.detach)

    def log_softmax(self, x: Tensor) -> Tensor:
        return torch.log_softmax(x, -1)

    def sum(self, x: Tensor) -> Tensor:
        return x.sum(-1)

    def where(self, condition: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
        return torch.where(condition, x, y)

    def clip(self, x: Tensor, low: float, high: float) -> Tensor:
        return torch.clip(x, low, high)

    def stack(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, y], -1)

    def one_hot_argmax(self, x: Tensor) -> Tensor:
        return one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype)


ops = _TorchOps()


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: float32 in place of the halves, whose tails are wrong outright."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _uniform(shape: torch.Size, like: Tensor, key: torch.Generator | None) -> Tensor:
    # In double whatever the dtype: a float32 uniform lies on a grid of 2^-24, which cuts the Gumbel
    # tail at 16.6 and bunches it above 12. Near zero a double keeps its digits in float32 as well.
    # No generator=None: torch.compile can't trace that overload with dynamic shapes.
    if key is None:
        u = torch.rand(shape, dtype=torch.float64, device=like.device)
    else:
        u = torch.rand(shape, dtype=torch.float64, device=like.device, generator=key)
    return u.clamp(min=2.0**-54)


def gumbel(shape: torch.Size, like: Tensor, key: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise of like's dtype and device, with an exact upper tail."""
    # The clamp: a double just below 1 rounds to 1 in float32, and log1p(-1) is infinite.
    u = _uniform(shape, like, key).to(like.dtype).clamp(max=1 - torch.finfo(like.dtype).eps / 2)
    return -torch.log(-torch.log1p(-u))


def logistic(shape: torch.Size, like: Tensor, key: torch.Generator | None = None) -> Tensor:
    """Standard logistic noise of like's dtype and device, with both tails exact."""
    return torch.logit(_uniform(shape, like, key)).to(like.dtype)
