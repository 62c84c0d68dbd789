r"""The mathematics of every distribution, once, over the array operations of a framework.

Conventions: categories are the last axis; ``ops`` is a framework's operations; ``temperature`` has
the batch's shape; ``log_value`` is the log of a point of the simplex; ``logit_value`` its binary
counterpart. Logits of -inf mask a category: every ``where`` that looks superfluous keeps such an
entry, and its gradient, from turning into NaN (0 * inf). A row without any category left (no error
can be raised where it is traced) has the value zero, of log density, entropy and gradient 0.
"""

import math

from relaxed_dists._ops import Array, Ops

EULER = 0.5772156649015329
LOWEST = -1e30  # stands for the log of zero where a density must stay finite
# Logits count as infinite from HUGE on, where float32 resolves no noise; temperatures are in
# [COLDEST, HOTTEST]. So float32 holds HUGE / COLDEST^2 (a gradient) and HOTTEST * LOWEST, and at
# FAR a category's probability is 0.
COLDEST, HOTTEST = 2.0**-20, 2.0**20
HUGE = 2.0**24
FAR = -4 * HUGE


def warm(ops: Ops, temperature: Array) -> Array:
    """The temperature, moved into the range that is computed with; NaN goes to its lower end."""
    return ops.clip(ops.where(temperature > COLDEST, temperature, COLDEST), COLDEST, HOTTEST)


def tame(ops: Ops, given: Array, rows: bool) -> Array:
    """Logits or probs that can't be refused: NaN masks, and so does a category's HUGE number."""
    return ops.where(given < HUGE if rows else given == given, given, -math.inf)


def _finite(ops: Ops, logits: Array, other: float = 0.0) -> tuple[Array, Array]:
    """Where logits count as finite, and the logits with another number elsewhere."""
    finite = abs(logits) < HUGE
    return finite, ops.where(finite, logits, other)


def _kept(
    ops: Ops, logits: Array, other: float = 0.0, plain: bool | None = None
) -> tuple[Array | bool, Array]:
    """The same, but True where one look shows that all logits are finite: no masks are built."""
    plain = ops.plain(logits) if plain is None else plain
    return (True, logits) if plain else _finite(ops, logits, other)


def _count(ops: Ops, kept: Array, logits: Array) -> Array:
    """The number of categories kept, in the logits' dtype (lgamma of it needs that precision)."""
    count = ops.sum(ops.where(kept, 0.0 * ops.stop_gradient(logits) + 1.0, 0.0))
    return ops.clip(count, 1.0, math.inf)


def _log_p(ops: Ops, logits: Array) -> tuple[Array, Array]:
    """Which categories are kept, and log_softmax with zeros elsewhere."""
    kept, logits = _finite(ops, logits, FAR)
    return kept, ops.where(kept, ops.log_softmax(logits), 0.0)


def softmax(ops: Ops, logits: Array) -> Array:
    """The probabilities, exactly 0 for a masked category."""
    kept, log_p = _log_p(ops, logits)
    return ops.where(kept, ops.exp(log_p), 0.0)


def hardest(ops: Ops, logits: Array, noise: Array | float = 0.0) -> Array:
    """The one-hot argmax of logits + noise among the categories kept; zeros if there are none."""
    kept, logits = _kept(ops, logits, -math.inf)
    scores = logits + noise
    if kept is not True:
        # By the scores and not by the logits, so that noise is used twice: XLA then makes it in a
        # loop of its own, of vectors, where one for scores, noise and bits goes number by number.
        kept = scores > -math.inf
        scores = ops.where(kept, scores, LOWEST)
    return ops.where(kept, ops.one_hot_argmax(scores), 0.0)


# Relaxed one-hot: Maddison et al. (2017), section 3.1, and appendix C.3 for the log space.


def concrete(
    ops: Ops,
    logits: Array,
    temperature: Array,
    gumbel: Array,
    hard: bool = False,
    plain: bool | None = None,
) -> tuple[Array, Array]:
    """The log value log_softmax((logits + gumbel) / temperature), and the value, or a hard one."""
    kept, logits = _kept(ops, logits, FAR, plain)
    log_value, value = ops.softmaxes_at(logits, temperature[..., None], gumbel, hard)
    return ops.where(kept, log_value, -math.inf), ops.where(kept, value, 0.0)


def exp_concrete_log_prob(ops: Ops, logits: Array, temperature: Array, log_value: Array) -> Array:
    """lgamma(K) + (K-1) log t + sum log_softmax(logits - t log_value), over the categories kept."""
    return _concrete_log_prob(ops, logits, temperature, log_value, False)


def concrete_log_prob(
    ops: Ops,
    logits: Array,
    temperature: Array,
    log_value: Array,
    own: bool = False,
    plain: bool | None = None,
    value: Array | None = None,
) -> Array:
    """The density on the simplex, from the log of the value: the log space's less sum log_value.

    Of an own sample, with the graph to these parameters, the scores are the noise but for a
    constant: they have no gradient in total, and none is computed. ``plain`` says of one whether
    the parameters were seen to be plain when it was drawn. ``value`` is what log_value is the log
    of, where it may be asked for a gradient of its own.
    """
    return _concrete_log_prob(ops, logits, temperature, log_value, True, own, plain, value)


def _concrete_log_prob(
    ops: Ops,
    logits: Array,
    temperature: Array,
    y: Array,
    simplex: bool,
    own: bool = False,
    plain: bool | None = None,
    value: Array | None = None,
) -> Array:
    heat = temperature[..., None]
    # Summed over log_softmax: sum s - K logsumexp s would subtract two numbers of size K |s|. And
    # one sum of differences, since the two sums are large and cancel.
    if (ops.plain(logits) and (own or ops.plain(y))) if plain is None else plain:
        number = logits.shape[-1]
        terms = ops.sum_log_softmax(logits, heat, y, simplex, own, value)
        return terms + ((number - 1) * ops.log(temperature) + math.lgamma(number))
    y = ops.linked(y, value, True)
    kept, logits = _finite(ops, logits, FAR)
    inside, off = kept, 0.0
    if not own:  # whose values are finite where they are kept
        # Off the face of the simplex that the categories kept span, or on a smaller one: none.
        inside = kept & (abs(y) < math.inf)
        off = ops.where(kept | (y != -math.inf), -math.inf, 0.0)
        y = ops.clip(y, LOWEST, -LOWEST)
    y = ops.where(inside, y, 0.0)
    scores = logits - heat * y
    logs = ops.log_softmax(ops.own(scores, value) if own else scores)
    terms = ops.sum(ops.where(inside, logs - y if simplex else logs, off))
    k = _count(ops, kept, logits)
    density = ops.lgamma(k) + (k - 1) * ops.log(temperature) + terms
    return density if own else ops.where(terms > -math.inf, density, -math.inf)


def exp_concrete_entropy(ops: Ops, logits: Array, temperature: Array) -> Array:
    """-lgamma(K) - (K-1) log t + K (gamma + digamma(K)): it does not depend on the logits."""
    kept, logits = _finite(ops, logits)
    k = _count(ops, kept, logits)
    return k * (EULER + ops.digamma(k)) - ops.lgamma(k) - (k - 1) * ops.log(temperature)


# Relaxed Bernoulli: Maddison et al. (2017), appendix B. Infinite logits are point masses.


def _end(ops: Ops, sign: Array) -> Array:
    """Plus infinity where the sign is positive, and minus infinity elsewhere."""
    return ops.where(sign > 0, math.inf, -math.inf)


def logit_concrete(ops: Ops, logits: Array, temperature: Array, logistic: Array) -> Array:
    """(logits + logistic) / temperature."""
    spread, finite = _kept(ops, logits)
    value = (finite + logistic) / temperature
    return value if spread is True else ops.where(spread, value, _end(ops, logits))


def logit_concrete_log_prob(
    ops: Ops, logits: Array, temperature: Array, logit_value: Array
) -> Array:
    """log t + d - 2 softplus(d), with d = logits - t logit_value."""
    return _binary_log_prob(ops, logits, temperature, logit_value, False)


def binary_concrete_log_prob(
    ops: Ops, logits: Array, temperature: Array, logit_value: Array, value: Array | None = None
) -> Array:
    """The density on (0, 1): the logit's, plus 2 softplus(y) - y = -log(x (1 - x)).

    ``value`` is what logit_value is the logit of, where it has a gradient of its own.
    """
    return _binary_log_prob(ops, logits, temperature, logit_value, True, value)


def _binary_log_prob(
    ops: Ops, logits: Array, temperature: Array, y: Array, unit: bool, value: Array | None = None
) -> Array:
    if ops.plain(logits) and ops.plain(y):
        return ops.log(temperature) + ops.logistic_terms(logits, temperature, y, unit, value)
    y = ops.linked(y, value, False)
    spread, finite = _finite(ops, logits)
    on = ops.where(spread, abs(y) < math.inf, y == _end(ops, logits))
    y = ops.where(spread & on, ops.clip(y, LOWEST, -LOWEST), 0.0)
    d = finite - temperature * y
    density = ops.log(temperature) + d - 2 * ops.softplus(d)
    density = density + (2 * ops.softplus(y) - y) if unit else density
    return ops.where(on, ops.where(spread, density, 0.0), -math.inf)


def logit_concrete_entropy(ops: Ops, logits: Array, temperature: Array) -> Array:
    """2 - log t: that of the logistic law, scaled."""
    spread, finite = _finite(ops, logits)
    return ops.where(spread, 2.0 - ops.log(temperature) + 0.0 * finite, 0.0)


def logit_concrete_variance(ops: Ops, logits: Array, temperature: Array) -> Array:
    """pi^2 / (3 t^2): that of the logistic law, scaled."""
    spread, finite = _finite(ops, logits)
    return ops.where(spread, math.pi**2 / 3 / temperature**2 + 0.0 * finite, 0.0)


def logit_concrete_cdf(ops: Ops, logits: Array, temperature: Array, logit_value: Array) -> Array:
    """sigmoid(t logit_value - logits), exact where it is small; of a point mass a step."""
    spread, finite = _finite(ops, logits)
    inside = ops.exp(-ops.softplus(finite - temperature * ops.where(spread, logit_value, 0.0)))
    step = ops.where(logit_value >= logits, 0.0 * inside + 1.0, 0.0)
    return ops.where(spread, inside, step)


def logit_concrete_icdf(ops: Ops, logits: Array, temperature: Array, q: Array) -> Array:
    """(logits + log q - log(1 - q)) / t."""
    return logit_concrete(ops, logits, temperature, logit(ops, q))


# The discrete laws. A Bernoulli is the two-category case of the same formulas.


def bernoulli_log_probs(ops: Ops, logits: Array) -> Array:
    """(log p, log(1 - p)) on a last axis of two."""
    return ops.stack(-ops.softplus(-logits), -ops.softplus(logits))


def categorical_log_prob(ops: Ops, logits: Array, value: Array) -> Array:
    """sum_k value_k log p_k; -inf where the value has weight on a masked category."""
    kept, log_p = _log_p(ops, logits)
    number = value == value  # not NaN
    off = ops.where(value == 0, 0.0 * log_p, -math.inf)
    return ops.sum(ops.where(kept & number, ops.where(number, value, 0.0) * log_p, off))


def categorical_entropy(ops: Ops, logits: Array) -> Array:
    """-sum p log p."""
    kept, log_p = _log_p(ops, logits)
    return -ops.sum(ops.where(kept, ops.exp(log_p) * log_p, 0.0))


def categorical_kl(ops: Ops, logits: Array, other: Array) -> Array:
    """sum p (log p - log q); inf where p has weight that q has not."""
    kept, log_p = _log_p(ops, logits)
    within, log_q = _log_p(ops, other)
    # Said outright: where exp(log_p) underflows, p * inf would be NaN.
    terms = ops.where(within, ops.exp(log_p) * (log_p - log_q), math.inf)
    return ops.sum(ops.where(kept, terms, 0.0))


# From probs, and from a value whose log is lost.


def log_probs(ops: Ops, probs: Array) -> Array:
    """log of p / sum p, with -inf (and a zero gradient) where p is exactly 0."""
    positive = probs > 0
    # The sum leaves zeros out: through it they would have a gradient, of zero to rounding only.
    total = ops.sum(ops.where(positive, probs, 0.0))[..., None]
    return ops.where(positive, ops.log(ops.where(positive, probs / total, 1.0)), -math.inf)


def logit(ops: Ops, probs: Array) -> Array:
    """log p - log(1 - p), infinite (with a zero gradient) at exactly 0 and 1."""
    inside = (probs > 0) & (probs < 1)
    p = ops.where(inside, probs, 0.5)
    return ops.where(inside, ops.log(p) - ops.log1p(-p), _end(ops, probs))


def log_of(ops: Ops, logits: Array, value: Array, tiny: float) -> Array:
    """log max(value, tiny): finite, but for exact zeros of masked categories."""
    logs = ops.log(ops.clip(value, tiny, math.inf))
    return ops.where((value > 0) | (logits > -HUGE), logs, -math.inf)


def underflows(ops: Ops, logits: Array, value: Array, tiny: float) -> Array:
    """Whether a row of the simplex has an entry below tiny, which no longer says its log.

    Zeros of masked categories do not count. A row with weight on a masked category does not count
    either: it is off the support, whatever its other entries are.
    """
    unmasked, one = logits > -HUGE, 0.0 * value + 1.0
    small = ops.max(ops.where(unmasked & (value < tiny), one, 0.0))
    off = ops.max(ops.where(unmasked | (value == 0), 0.0 * one, one))
    return small > off


def logit_of(ops: Ops, logits: Array, value: Array, tiny: float, eps: float) -> Array:
    """The logit of value clamped inside (0, 1): finite, but at the place of a point mass."""
    inside = ops.clip(value, tiny, 1 - eps / 2)
    finite = ops.log(inside) - ops.log1p(-inside)
    between = (value > 0) & (value < 1)
    return ops.where(between | (abs(logits) < HUGE), finite, _end(ops, value))


def at_an_end(ops: Ops, logits: Array, value: Array, tiny: float) -> Array:
    """Whether a number is rounded to 0 or 1; not at the place of a point mass."""
    return ((value < tiny) | (value == 1)) & (abs(logits) < HUGE)


def straight_through(ops: Ops, hard: Array, soft: Array) -> Array:
    """The hard value, with the gradient of the soft one."""
    # In this order the result is exactly the hard value: soft - soft is 0, and only then is added.
    return ops.stop_gradient(hard) + (soft - ops.stop_gradient(soft))


# What the estimators are made of.


def conditional_gumbel(ops: Ops, logits: Array, hard: Array, gumbel: Array) -> Array:
    """Gumbel noise given that the hard value is the argmax of logits + noise; a constant.

    Paulus et al. (2021), section 3: with l = log_softmax(logits), the largest score is a Gumbel
    variable g, and the others -log(exp(-g) + exp(-l_k - g_k)). Less l, so that none overflows.
    """
    _, log_p = _log_p(ops, logits)
    top = ops.sum(hard * gumbel)[..., None]
    others = gumbel - ops.softplus(log_p + gumbel - top)
    return ops.stop_gradient(ops.where(hard > 0, top - log_p, others))


def gap(ops: Ops, logits: Array, hard: Array, size: float) -> Array:
    """What lifts the hard category to the largest logit, and others below it by a gap or more."""
    _, logits = _finite(ops, logits, FAR)
    top = ops.max(logits)[..., None]
    lowered = ops.clip(logits + size - top, 0.0, math.inf)
    return ops.stop_gradient(ops.where(hard > 0, top - logits, -lowered))


def log_middle(ops: Ops, logits: Array, hard: Array) -> Array:
    """log(p + hard), that is log of their mean but for a constant; -inf masks."""
    kept, log_p = _log_p(ops, logits)
    middle = ops.where(hard > 0, ops.log1p(ops.exp(log_p)), log_p)
    return ops.where(kept, middle, -math.inf)
