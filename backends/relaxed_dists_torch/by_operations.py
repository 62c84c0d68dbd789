"""Draws and densities by few operations of torch, for any dtype and device, all differentiable.

The functions have the names and signatures of those in ``compiled``. The logits x, log values y and
their gradients have one row for each event, and there is one temperature t for each row.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from relaxed_dists._distributions.formulas import FAR, HUGE, LOWEST

from .state import eager, transformed


def one_hot(x: Tensor) -> Tensor:
    """The one-hot argmax; ties keep the first maximum."""
    zeros, index = torch.zeros_like(x), x.argmax(-1, keepdim=True)
    # vmap computes scatter_ row by row, and exporters know scatter alone, which copies the zeros.
    in_place = eager() and not transformed()
    return zeros.scatter_(-1, index, 1.0) if in_place else zeros.scatter(-1, index, 1.0)


def _noisy(x: Tensor, noise: Tensor) -> Tensor:
    """The scores x + noise; -inf where x is NaN, infinite, or so large that it counts as that."""
    scaled, scale = _scaled(x)
    return torch.add(noise, scaled, alpha=1 / scale)


def _scaled(x: Tensor) -> tuple[Tensor, float]:
    """x times a scale, with -inf where abs(x) is HUGE or more or NaN; and the scale."""
    # The scale is such that these numbers overflow, and nan_to_num replaces them. That takes two
    # launches on a GPU, where abs, a comparison and torch.where with a number take four.
    scale = 2.0 ** (104 if x.dtype is torch.float32 else 1000)
    return torch.nan_to_num(x * scale, -math.inf, -math.inf, -math.inf), scale


def draw(
    x: Tensor, noise: Tensor, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """A log value y = log_softmax((x + noise) / t), or None if not ``log``, and the value.

    The value is exp(y) or, if ``hard``, the one-hot argmax of x + noise.
    """
    scores = _noisy(x, noise)
    value = _where_above(one_hot(scores), scores, -math.inf) if hard else None
    if log:  # nan_to_num is for rows in which all categories are masked
        y = torch.log_softmax(scores / t[..., None], -1)
        y = torch.nan_to_num(y, -math.inf, math.inf, -math.inf)
        return y, y.exp() if value is None else value
    if value is None:
        value = torch.nan_to_num(torch.softmax(scores / t[..., None], -1), 0.0)
    return None, value


def _where_above(x: Tensor, test: Tensor, threshold: float) -> Tensor:
    """x where ``test`` is above a threshold or NaN, and 0 elsewhere; it is one launch on a GPU."""
    result: Tensor = torch.ops.aten.threshold_backward(x, test, threshold)
    return result


def draw_back(
    y: Tensor | None,
    p: Tensor | None,
    t: Tensor,
    by_y: Tensor | None,
    by_value: Tensor | None,
    by_t: bool,
    by_own: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The gradients of a draw with respect to x and, if ``by_t``, with respect to t.

    p is exp(y). ``by_y``, ``by_value`` and ``by_own`` are the gradients with respect to y, to the
    value, and to the log density that is computed with the draw.
    """
    if by_own is not None:
        assert y is not None
        by_y = (0.0 if by_y is None else by_y) - by_own[..., None].expand_as(y)
    if p is None:
        assert y is not None
        p = y.exp()
    # Masked categories have no gradient, whatever the gradients of their values are.
    if by_y is None:
        h = torch.zeros_like(p) if by_value is None else _where_above(by_value, p, 0.0)
        dx = torch.ops.aten._softmax_backward_data(h, p, -1, p.dtype)
    else:
        assert y is not None
        h = by_y if by_value is None else torch.addcmul(by_y, p, by_value)
        h = _where_above(h, y, -math.inf)
        dx = torch.ops.aten._log_softmax_backward_data(h, y, -1, y.dtype)
    dx = dx / t[..., None]
    if not by_t:
        return dx, None
    assert y is not None
    # The formula of dt has the scores (x + noise) / t in place of y. They equal y up to a constant
    # per row, which drops out because each row of dx sums to zero.
    dt = -(dx * torch.nan_to_num(y, neginf=0.0)).sum(-1)
    if by_own is not None:
        dt = dt + by_own * ((y > -math.inf).sum(-1).clamp(min=1) - 1) / t
    return dx, dt


def own_density(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The log density on the simplex of log values y that were drawn with x and t."""
    # Exactly the masked categories have y = -inf. Their scores x - t y are infinite or NaN, and
    # become -inf, so that their terms -inf + inf are NaN. nansum leaves these terms out.
    scores = torch.addcmul(x, t[..., None], y, value=-1)
    scores = torch.nan_to_num(scores, -math.inf, -math.inf, -math.inf)
    total = torch.nansum(torch.log_softmax(scores, -1) - y, -1)
    k = (y > -math.inf).sum(-1, dtype=y.dtype).clamp(min=1)
    return total + torch.lgamma(k) + torch.xlogy(k - 1, t)


def _scores(x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which entries are unmasked and finite; y, made finite; and the scores x - t y."""
    inside = (x.abs() < HUGE) & (y.abs() < math.inf)
    y = torch.where(inside, y, 0.0).clamp(LOWEST, -LOWEST)
    return inside, y, torch.where(inside, x, FAR) - t[..., None] * y


def density(x: Tensor, t: Tensor, y: Tensor, simplex: bool) -> Tensor:
    """The log density of each row of log values y, in log space or, if ``simplex``, of exp(y)."""
    inside, finite, scores = _scores(x, t, y)
    terms = torch.log_softmax(scores, -1)
    # Outside the face that the unmasked categories span, and on its boundary, the density is zero.
    off = torch.where((x.abs() < HUGE) | (y != -math.inf), -math.inf, 0.0).to(y.dtype)
    total = torch.where(inside, terms - finite if simplex else terms, off).sum(-1)
    k = inside.sum(-1).clamp(min=1).to(total.dtype)
    return total + torch.lgamma(k) + (k - 1) * torch.log(t)


def density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients with respect to x, t and y, from the gradient g of ``density``."""
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


def log_p(x: Tensor) -> Tensor:
    """log_softmax(x); -inf for masked categories."""
    scaled, scale = _scaled(x)
    logs = torch.log_softmax(scaled * (1 / scale), -1)
    return torch.nan_to_num(logs, -math.inf, math.inf, -math.inf)


def log_p_back(logs: Tensor, g: Tensor) -> Tensor:
    """The gradient with respect to x, from the gradient g of ``log_p``."""
    h = _where_above(g, logs, -math.inf)
    result: Tensor = torch.ops.aten._log_softmax_backward_data(h, logs, -1, logs.dtype)
    return result


def mass(x: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The log mass sum_k value_k log p_k of each row, and log p for the backward pass.

    The sum is -inf where the value is NaN, or has weight on a masked category.
    """
    logs = log_p(x)
    terms = (value * logs).masked_fill_(value == 0, 0.0)
    return torch.nan_to_num(terms.sum(-1), -math.inf, -math.inf, -math.inf), logs


def mass_back(
    x: Tensor, value: Tensor, g: Tensor, wanted: tuple[bool, bool], logs: Tensor | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients with respect to x and the value, from the gradient g of ``mass``."""
    logs = log_p(x) if logs is None else logs
    g, dx, dvalue = g[..., None], None, None
    if wanted[0]:  # a NaN in the value has no gradient
        h = g * torch.nan_to_num(value, 0.0, math.inf, -math.inf)
        # log_p_back needs equal shapes and dtypes. The value may have a wider dtype than x.
        dx = log_p_back(logs.expand_as(h), h.to(logs.dtype))
    if wanted[1]:
        dvalue = torch.where(value == value, g * torch.nan_to_num(logs, neginf=0.0), 0.0)
    return dx, dvalue


def binary_mass(x: Tensor, value: Tensor) -> Tensor:
    """value log p + (1 - value) log(1 - p), for finite logits x; -inf for a NaN in the value."""
    mass = torch.addcmul(value * logsigmoid(x), 1 - value, logsigmoid(-x))
    return torch.nan_to_num(mass, -math.inf, math.inf, -math.inf)


def binary_mass_back(
    x: Tensor, value: Tensor, g: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients with respect to x and the value, from the gradient g of ``binary_mass``."""
    dx = dvalue = None
    if wanted[0]:  # value - sigmoid(x) would cancel where a value of 1 is nearly sure
        slope = torch.addcmul(value * (-x).sigmoid(), 1 - value, x.sigmoid(), value=-1)
        dx = g * torch.nan_to_num(slope, 0.0, math.inf, -math.inf)  # a NaN has no gradient
    if wanted[1]:
        dvalue = torch.where(value == value, g * x, 0.0)
    return dx, dvalue


def _end(x: Tensor) -> Tensor:
    """The infinity on x's side of 0; of two numbers torch makes a tensor of the default dtype."""
    return torch.where(x > 0, math.inf, -math.inf).to(x.dtype)


def binary_draw(
    x: Tensor, noise: Tensor, t: Tensor, hard: bool, log: bool = True
) -> tuple[Tensor | None, Tensor]:
    """A logit y = (x + noise) / t, or None if hard and not ``log``, and the value.

    The value is sigmoid(y) or, if ``hard``, 1 where x + noise is positive and 0 elsewhere.
    """
    scores = x + noise
    if hard and not log:
        return None, (scores > 0).to(scores.dtype)
    end = _end(x)
    y = torch.where(x.abs() < HUGE, scores / t, end)
    return y, (scores > 0).to(y.dtype) if hard else y.sigmoid()


def binary_draw_back(
    y: Tensor, t: Tensor, by_y: Tensor | None, by_value: Tensor | None, by_t: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradients of a binary draw with respect to x and, if ``by_t``, with respect to t."""
    finite = y.abs() < math.inf
    slope = y.sigmoid() * (-y).sigmoid()
    zero = y.new_zeros(())
    h = torch.addcmul(zero if by_y is None else by_y, slope, zero if by_value is None else by_value)
    dx = torch.where(finite, h / t, 0.0)
    return dx, -dx * torch.where(finite, y, 0.0) if by_t else None


def _difference(x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where x and y are finite; y, made finite; and d = x - t y."""
    finite = x.abs() < HUGE
    inside = finite & (y.abs() < math.inf)
    y = torch.where(inside, y, 0.0).clamp(LOWEST, -LOWEST)
    return inside, y, torch.where(finite, x, 0.0) - t * y


def binary_density(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
    """The log density of the logits y or, if ``unit``, of sigmoid(y) in (0, 1)."""
    inside, finite, d = _difference(x, t, y)
    # Above its default threshold of 20, torch's softplus(d) returns d, wrong by 2e-9 in double.
    total = torch.log(t) + d - 2 * softplus(d, threshold=40)
    if unit:
        total = total + (2 * softplus(finite, threshold=40) - finite)
    end = _end(x)
    point = torch.where((y == end) & ~(x.abs() < HUGE), 0.0, -math.inf).to(total.dtype)
    return torch.where(inside, total, point)


def binary_density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients with respect to x, t and y, from the gradient g of ``binary_density``."""
    inside, finite, d = _difference(x, t, y)
    by_d = torch.where(inside, -g * torch.tanh(d / 2), 0.0)
    by_y = (g * torch.tanh(finite / 2) if unit else 0.0) - t * by_d
    by_y = torch.where(inside & (y.abs() <= -LOWEST), by_y, 0.0)
    return by_d, torch.where(inside, g / t, 0.0) - by_d * finite, by_y
