r"""The formulas that all families are built from, over the array operations of a framework.

Conventions: categories are the last axis; ``ops`` is a framework's operations; ``temperature`` has
the batch's shape. A category is masked if its logit is -inf. A formula comes in two layers: the
paper's formula for finite numbers, and around it a formula that handles masked categories. A
``where`` that looks superfluous keeps a masked entry, and its gradient, from turning into NaN
(0 * inf). If all categories of an event are masked, traced code can't raise an error: the value is
then zero, and the log density, entropy and gradient are 0.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from relaxed_dists._ops import Array, Ops

EULER = 0.5772156649015329
LOWEST = -1e30  # replaces -inf, the log of zero, where a density must stay finite
# Logits of size HUGE or more are treated as infinite, because float32 loses noise of size 1 that
# is added to them. Temperatures are in [COLDEST, HOTTEST]. So HUGE / COLDEST^2 (a gradient) and
# HOTTEST * LOWEST do not overflow in float32. A logit of FAR adds nothing to a softmax.
COLDEST, HOTTEST = 2.0**-20, 2.0**20
HUGE = 2.0**24
FAR = -4 * HUGE


class hot:
    """A decorator for a formula that a framework may replace by a kernel, a faster function.

    A kernel has the formula's signature, and is stored in ``ops.kernels`` under the formula's name,
    "module.function". A kernel can call the replaced formula, which is the attribute ``formula``.
    """

    def __init__(self, formula: Callable[..., Any]) -> None:
        functools.update_wrapper(self, formula)
        self.formula, self.name = formula, f"{formula.__module__.split('.')[-1]}.{formula.__name__}"

    def __call__(self, ops: Ops, *given: Any) -> Any:
        return ops.kernels.get(self.name, self.formula)(ops, *given)


def clamp_temperature(ops: Ops, temperature: Array) -> Array:
    """The temperature, moved into [COLDEST, HOTTEST]; NaN becomes COLDEST."""
    return ops.clip(ops.where(temperature > COLDEST, temperature, COLDEST), COLDEST, HOTTEST)


def sanitize_logits(ops: Ops, given: Array, one_hot: bool) -> Array:
    """Unchecked logits or probs, with NaN, and if one_hot also HUGE or more, replaced by -inf."""
    return ops.where(given < HUGE if one_hot else given == given, given, -math.inf)


def finite_or(ops: Ops, logits: Array, other: float = 0.0) -> tuple[Array, Array]:
    """Which logits are treated as finite, and the logits with ``other`` in place of the rest."""
    finite = abs(logits) < HUGE
    return finite, ops.where(finite, logits, other)


def count(ops: Ops, unmasked: Array, logits: Array) -> Array:
    """The number of unmasked categories, in the logits' dtype, whose precision lgamma needs."""
    ones = 0.0 * ops.stop_gradient(logits) + 1.0
    return ops.clip(ops.sum(ops.where(unmasked, ones, 0.0)), 1.0, math.inf)


def log_p(ops: Ops, logits: Array) -> tuple[Array, Array]:
    """Which categories are unmasked, and their log_softmax, with 0 for masked categories."""
    unmasked, logits = finite_or(ops, logits, FAR)
    return unmasked, ops.where(unmasked, ops.log_softmax(logits), 0.0)


def softmax(ops: Ops, logits: Array) -> Array:
    """The probabilities, exactly 0 for a masked category."""
    unmasked, logs = log_p(ops, logits)
    return ops.where(unmasked, ops.exp(logs), 0.0)


@hot
def hard_argmax(ops: Ops, logits: Array, noise: Array | float = 0.0) -> Array:
    """The one-hot argmax of logits + noise among unmasked categories; zeros if all are masked."""
    _, logits = finite_or(ops, logits, -math.inf)
    scores = logits + noise
    # Masks are looked for in the scores, not in the logits, so that `noise` is used twice. Then XLA
    # computes `noise` in a vectorised loop of its own, 4-6x faster on a CPU than in one scalar loop
    # with the rest.
    unmasked = scores > -math.inf
    return ops.where(unmasked, ops.one_hot_argmax(ops.where(unmasked, scores, LOWEST)), 0.0)


@hot
def softmaxes(ops: Ops, scores: Array, temperature: Array) -> tuple[Array, Array]:
    """log_softmax(scores / temperature) of finite scores, and its exponential.

    The last axis of the temperature has length 1.
    """
    # The maximum is subtracted before the division. Otherwise XLA may compute scores / temperature
    # twice with different rounding: once for the maximum inside log_softmax, and once for the
    # numbers that it is subtracted from. Above 1e9 the difference then overflows the exponential.
    top = ops.stop_gradient(ops.max(scores))[..., None]
    log_value = ops.log_softmax((scores - top) / temperature)
    return log_value, ops.exp(log_value)


def straight_through(ops: Ops, hard: Array, soft: Array) -> Array:
    """The hard value, with the gradient of the soft value."""
    # In this order the result is exactly the hard value, since soft - soft is exactly 0.
    return ops.stop_gradient(hard) + (soft - ops.stop_gradient(soft))


def end(ops: Ops, sign: Array) -> Array:
    """Plus infinity where the sign is positive, and minus infinity elsewhere."""
    return ops.where(sign > 0, math.inf, -math.inf)


def log_probs(ops: Ops, probs: Array) -> Array:
    """log(p / sum p), with -inf (and a zero gradient) where p is exactly 0."""
    positive = probs > 0
    # The sum leaves out the zeros, so that their gradient is exactly 0, without rounding errors.
    total = ops.sum(ops.where(positive, probs, 0.0))[..., None]
    return ops.where(positive, ops.log(ops.where(positive, probs / total, 1.0)), -math.inf)


def logit(ops: Ops, probs: Array) -> Array:
    """log p - log(1 - p), infinite (with a zero gradient) at exactly 0 and 1."""
    inside = (probs > 0) & (probs < 1)
    p = ops.where(inside, probs, 0.5)
    return ops.where(inside, ops.log(p) - ops.log1p(-p), end(ops, probs))


def rounding(eps: float, shape: Any) -> float:
    """The largest rounding error of a sum over a shape's last axis whose exact result is 1."""
    return 32 * eps * (1 + math.log(max((1, *shape[-1:]))))


def on_simplex(value: Array, slack: float) -> Array:
    """Whether each vector is a point of the simplex, to rounding."""
    return (value >= 0).all(-1) & (abs(value.sum(-1) - 1) <= slack)


def logsumexp(ops: Ops, x: Array) -> Array:
    """log sum exp x."""
    top = ops.max(x)[..., None]
    return top[..., 0] + ops.log(ops.sum(ops.exp(x - top)))


def bernoulli_log_probs(ops: Ops, logits: Array) -> Array:
    """(log p, log(1 - p)) on a last axis of two: the value 1 is the first of two categories."""
    return ops.stack(-ops.softplus(-logits), -ops.softplus(logits))


def normaliser(ops: Ops, k: Array, temperature: Array) -> Array:
    """The log normaliser of relaxed densities at temperature t: log (K - 1)! + (K - 1) log t."""
    return ops.lgamma(k) + (k - 1) * ops.log(temperature)


# The functions below are formulas of estimators.


def conditional_gumbel(ops: Ops, logits: Array, hard: Array, gumbel: Array) -> Array:
    """Gumbel noise given that the hard value is the argmax of logits + noise; without gradient.

    Paulus et al. (2021), section 3: with l = log_softmax(logits) and Gumbel variables g, the
    largest score is g_b, where b is the drawn category, and the other scores are
    -log(exp(-g_b) + exp(-l_k - g_k)). The noise is the scores minus l, written so that nothing
    overflows.
    """
    _, logs = log_p(ops, logits)
    top = ops.sum(hard * gumbel)[..., None]
    others = gumbel - ops.softplus(logs + gumbel - top)
    return ops.stop_gradient(ops.where(hard > 0, top - logs, others))


def gap(ops: Ops, logits: Array, hard: Array, size: float) -> Array:
    """The shift of logits that makes the hard category the largest, by a gap of ``size``.

    The shift raises the hard category to the largest logit, and lowers logits that are too close.
    """
    _, logits = finite_or(ops, logits, FAR)
    top = ops.max(logits)[..., None]
    lowered = ops.clip(logits + size - top, 0.0, math.inf)
    return ops.stop_gradient(ops.where(hard > 0, top - logits, -lowered))


def log_middle(ops: Ops, logits: Array, hard: Array) -> Array:
    """log(p + hard), the log of the mean of p and hard up to a constant; -inf where masked."""
    unmasked, logs = log_p(ops, logits)
    middle = ops.where(hard > 0, ops.log1p(ops.exp(logs)), logs)
    return ops.where(unmasked, middle, -math.inf)
