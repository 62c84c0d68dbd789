"""The hot formulas by few operations of torch, for any dtype and device, all differentiable.

The functions have the signatures of those in ``compiled``. Temperatures are one a row.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from relaxed_dists._distributions.formulas import FAR, HUGE, LOWEST


def one_hot(x: Tensor) -> Tensor:
    """The one-hot argmax; ties keep the first maximum."""
    # torch's own one_hot fails in vmap of grad.
    return torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), 1.0)


def draw(
    x: Tensor, noise: Tensor, t: Tensor, hard: bool, log: bool = True, own: Any = None
) -> tuple[Tensor | None, Tensor]:
    """y = log_softmax((x + noise) / t), and its exponential or the one-hot argmax of x + noise."""
    unmasked = x.abs() < HUGE
    scores = torch.where(unmasked, x, FAR) + noise
    if hard and not log:
        return None, torch.where(unmasked, one_hot(scores), 0.0)
    y = torch.where(unmasked, torch.log_softmax(scores / t[..., None], -1), -math.inf)
    value = torch.where(unmasked, one_hot(scores), 0.0) if hard else y.exp()
    return y if log else None, value


def draw_back(
    y: Tensor | None,
    p: Tensor | None,
    t: Tensor,
    by_y: Tensor | None,
    by_value: Tensor | None,
    by_t: bool,
) -> tuple[Tensor, Tensor | None]:
    """The gradients of ``draw`` by x and, if ``by_t``, by t."""
    if p is None:
        assert y is not None
        p = y.exp()
    zero = p.new_zeros(())
    h = torch.addcmul(zero if by_y is None else by_y, p, zero if by_value is None else by_value)
    unmasked = p > 0 if y is None else y > -math.inf
    h = torch.where(unmasked, h, 0.0)  # whatever the gradients at masked categories are
    dx = torch.addcmul(h, p, h.sum(-1, keepdim=True), value=-1) / t[..., None]
    # The scores (x + noise) / t would stand here for y: they equal y up to a constant per row,
    # which drops out because each row of dx sums to zero.
    if not by_t:
        return dx, None
    assert y is not None
    return dx, -(dx * torch.where(unmasked, y, 0.0)).sum(-1)


def _scores(x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which entries count, log values that are finite, and the scores x - t y."""
    inside = (x.abs() < HUGE) & (y.abs() < math.inf)
    y = torch.where(inside, y, 0.0).clamp(LOWEST, -LOWEST)
    return inside, y, torch.where(inside, x, FAR) - t[..., None] * y


def density(x: Tensor, t: Tensor, y: Tensor, simplex: bool) -> Tensor:
    """The log density of log values y, in log space or on the simplex, one a row."""
    inside, finite, scores = _scores(x, t, y)
    terms = torch.log_softmax(scores, -1)
    # Outside the face that the unmasked categories span, and on its boundary, the density is zero.
    off = torch.where((x.abs() < HUGE) | (y != -math.inf), -math.inf, 0.0)
    total = torch.where(inside, terms - finite if simplex else terms, off).sum(-1)
    k = inside.sum(-1).clamp(min=1).to(total.dtype)
    return total + torch.lgamma(k) + (k - 1) * torch.log(t)


def density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of ``density`` by x, t and y; g is the gradient by it."""
    inside, finite, scores = _scores(x, t, y)
    k = inside.sum(-1).to(x.dtype)
    inside = inside & ~((x.abs() < HUGE) & ~inside).any(-1, keepdim=True)
    inside = inside & ((x.abs() < HUGE) | (y == -math.inf)).all(-1, keepdim=True)
    p = torch.softmax(scores, -1)
    d = torch.where(inside, g[..., None] * (1 - k[..., None] * p), 0.0)
    last = g[..., None] if simplex else 0.0
    by_y = torch.where(inside & (y.abs() <= -LOWEST), -last - t[..., None] * d, 0.0)
    some = inside.any(-1)
    by_t = torch.where(some, g * (k - 1) / t, 0.0) - (d * finite).sum(-1)
    return d, by_t, by_y


def mass(x: Tensor, value: Tensor) -> tuple[Tensor, bool]:
    """sum_k value_k log p_k, one a row; whether all values are one-hot is not looked at."""
    unmasked = x.abs() < HUGE
    logs = torch.log_softmax(torch.where(unmasked, x, FAR), -1)
    inside = unmasked & (value == value)  # not NaN
    terms = torch.where(inside, torch.where(inside, value, 0.0) * logs, -math.inf)
    return torch.where(value == 0, 0.0, terms).sum(-1), True


def binary_draw(
    x: Tensor, noise: Tensor, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """y = (x + noise) / t, and its sigmoid, or 1 where x + noise is positive."""
    scores = x + noise
    if hard and not log:
        return None, torch.where(scores > 0, 1.0, 0.0)
    end = torch.where(x > 0, math.inf, -math.inf)
    y = torch.where(x.abs() < HUGE, scores / t, end)
    return y, (scores > 0).to(y.dtype) if hard else y.sigmoid()


def binary_draw_back(
    y: Tensor, t: Tensor, by_y: Tensor | None, by_value: Tensor | None, by_t: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradients of ``binary_draw`` by x and, if ``by_t``, by t."""
    finite = y.abs() < math.inf
    slope = y.sigmoid() * (-y).sigmoid()
    zero = y.new_zeros(())
    h = torch.addcmul(zero if by_y is None else by_y, slope, zero if by_value is None else by_value)
    dx = torch.where(finite, h / t, 0.0)
    return dx, -dx * torch.where(finite, y, 0.0) if by_t else None


def _difference(x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where logits and values are finite, finite values, and d = x - t y."""
    finite = x.abs() < HUGE
    inside = finite & (y.abs() < math.inf)
    y = torch.where(inside, y, 0.0).clamp(LOWEST, -LOWEST)
    return inside, y, torch.where(finite, x, 0.0) - t * y


def binary_density(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
    """The log density of logits y, of the logit or on (0, 1)."""
    inside, finite, d = _difference(x, t, y)
    # Above torch's default threshold of 20, softplus(d) is d: in double off by 2e-9.
    total = torch.log(t) + d - 2 * softplus(d, threshold=40)
    if unit:
        total = total + (2 * softplus(finite, threshold=40) - finite)
    end = torch.where(x > 0, math.inf, -math.inf)
    point = torch.where((y == end) & ~(x.abs() < HUGE), 0.0, -math.inf)
    return torch.where(inside, total, point)


def binary_density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of ``binary_density`` by x, t and y; g is the gradient by it."""
    inside, finite, d = _difference(x, t, y)
    by_d = torch.where(inside, -g * torch.tanh(d / 2), 0.0)
    by_y = (g * torch.tanh(finite / 2) if unit else 0.0) - t * by_d
    by_y = torch.where(inside & (y.abs() <= -LOWEST), by_y, 0.0)
    return by_d, torch.where(inside, g / t, 0.0) - by_d * finite, by_y


def mass_back(
    x: Tensor, value: Tensor, g: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of ``mass`` by x and by the value."""
    unmasked = x.abs() < HUGE
    logs = torch.log_softmax(torch.where(unmasked, x, FAR), -1)
    inside = unmasked & (value == value)  # not NaN
    weights = torch.where(inside, value, 0.0)
    dx = weights - logs.exp() * weights.sum(-1, keepdim=True)
    g = g[..., None]
    return torch.where(unmasked, g * dx, 0.0), torch.where(inside, g * logs, 0.0)
