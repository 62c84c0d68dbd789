"""torch's kernel for relaxed subsets on a CPU, with its gradient written out.

A relaxed subset is a sum of k rounds of softmax. The kernel goes through memory only a few times in
each round.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from relaxed_dists._distributions import subset

from .ops import ops
from .state import eager, transformed

LEAST = 1e-20  # the kernel is exact if all categories but the largest weigh more than this in sum
Round = tuple[Tensor, Tensor, Tensor, Tensor]


def _rest(a: Tensor, rows: Tensor, place: Tensor) -> Tensor:
    """1 - a for the largest a of each row, which may round to 1: the sum of the other a."""
    return a[rows].scatter_(-1, place[:, None], 0.0).sum(-1)


def _rounds(
    scores: Tensor, temperature: Tensor, k: int, keep: bool
) -> tuple[Tensor, list[Round]] | None:
    """The sum of k softmaxes, and intermediate results for its gradient; None if not exact.

    If ``keep``, the intermediate results of each round are its softmax a, the rows in which 1 - a
    would lose digits, the place of the largest a in these rows, and 1 - a at this place.
    """
    y, value, kept = scores / temperature, torch.zeros_like(scores), []
    for last in [False] * (k - 1) + [True]:
        a = torch.softmax(y, -1)
        rows = (a.amax(-1) > 0.5).nonzero()[:, 0]
        place = a[rows].argmax(-1)
        rest = _rest(a, rows, place)
        if not (rest > LEAST).all():
            return None
        value += a
        if keep:
            kept.append((a, rows, place, rest))
        if not last:
            y.addcdiv_(_complement(a, rows, place, rest).log_(), temperature)
    return value, kept


def _complement(a: Tensor, rows: Tensor, place: Tensor, rest: Tensor) -> Tensor:
    """1 - a, with ``rest`` where the difference would lose digits."""
    found = 1 - a
    found[rows, place] = rest
    return found


class _Rounds(Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, temperature: Tensor, k: int, found: Any) -> Any:
        ctx.k, (value, kept) = k, found
        ctx.save_for_backward(scores, temperature, *(x for row in kept for x in row))
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        scores, temperature, *kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # a second derivative needs the gradients of the formula
            given = [x for x, w in zip((scores, temperature), wanted, strict=True) if w]
            value = subset.rounds.formula(ops, ctx.k, scores, temperature)
            found = iter(torch.autograd.grad(value, given, g, create_graph=True))
            return *(next(found) if w else None for w in wanted), None, None
        by_scores, by_t = torch.zeros_like(scores), torch.zeros_like(temperature)
        for i in reversed(range(0, len(kept), 4)):
            a, rows, place, rest = kept[i : i + 4]
            # by_log is the gradient with respect to log a, and by_y with respect to scores / t.
            if i + 4 == len(kept):  # the last round, after which no 1 - a is used
                by_log = g * a
            else:
                by_log = by_scores.div(_complement(a, rows, place, rest))
                by_log = torch.sub(g, by_log, out=by_log).mul_(a)
            by_y = torch.addcmul(by_log, a, by_log.sum(-1, keepdim=True), value=-1)
            # Where the largest a is near 1, this difference would cancel: it is made of 1 - a here.
            others = _rest(by_log, rows, place)
            by_y[rows, place] = by_log[rows, place] * rest - a[rows, place] * others
            by_scores.addcdiv_(by_y, temperature)
            if wanted[1]:
                logs = a.clamp(min=torch.finfo(a.dtype).tiny).log_()
                by_t -= (by_y * logs).sum(-1, keepdim=True) / temperature
        return by_scores if wanted[0] else None, by_t if wanted[1] else None, None, None


def rounds(_: Any, k: int, scores: Tensor, temperature: Tensor) -> Any:
    """The sum of k softmaxes: by this kernel on a CPU if it is exact, else by the formula."""
    found = None
    if scores.device.type == "cpu" and eager() and not transformed() and scores.numel():
        shape, n = scores.shape, scores.shape[-1]
        t = temperature.expand(*shape[:-1], 1).reshape(-1, 1)
        flat = scores.reshape(-1, n)
        keep = torch.is_grad_enabled() and (flat.requires_grad or t.requires_grad)
        with torch.no_grad():
            found = _rounds(flat, t, k, keep)
        if found is not None:
            value = _Rounds.apply(flat, t, k, found) if keep else found[0]
            return value.reshape(shape)
    return subset.rounds.formula(ops, k, scores, temperature)


ops.kernels[subset.rounds.name] = rounds
