"""JAX's kernels for elementwise formulas, and for formulas with a softmax.

A kernel is a function that is called in place of the formula of the same name, which is written
once for both frameworks. Elementwise kernels compute on flat arrays. In the other kernels a softmax
and its logarithm share an exponential, and their gradients are written out.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, custom_derivatives, lax

from relaxed_dists._distributions import bernoulli, one_hot, subset
from relaxed_dists._distributions.formulas import HUGE, LOWEST, hot, softmaxes

from .carrier import get_relaxed, keep_relaxed
from .devices import several
from .input import known
from .ops import LGAMMA, ops


def _flatten(formula: hot) -> None:
    """Let a kernel compute the formula on flat arrays.

    On a CPU, XLA's loop over a short last axis would take 5 times as long.
    """

    def call(ops: Any, *arrays: Array | float) -> Any:
        if several():
            return formula.formula(ops, *arrays)
        shape = jnp.broadcast_shapes(*map(jnp.shape, arrays))
        flat = (x if jnp.ndim(x) == 0 else jnp.broadcast_to(x, shape).reshape(-1) for x in arrays)
        return jax.tree.map(lambda x: x.reshape(shape), formula.formula(ops, *flat))

    ops.kernels[formula.name] = call


for _formula in (
    bernoulli.logit_concrete,
    bernoulli.binary_concrete,
    bernoulli.logit_concrete_log_prob,
    bernoulli.binary_concrete_log_prob,
):
    _flatten(_formula)


def _shifted(scores: Array, temperature: Array) -> tuple[Array, Array, Array]:
    """scores / temperature minus its maximum, the exponential of that, and the sum of those."""
    z = (scores - scores.max(-1, keepdims=True)) / temperature
    exponential = jnp.exp(z)
    return z, exponential, exponential.sum(-1, keepdims=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _softmaxes(scores: Array, temperature: Array, hard: bool) -> tuple[Array, Array]:
    """The log value log_softmax(scores / temperature), and the value.

    The value is the exponential of the log value or, if ``hard``, the one-hot argmax, with the
    gradient of that exponential.
    """
    z, exponential, total = _shifted(scores, temperature)
    if hard:
        # XLA compiles argmax to a loop over single numbers, which is slow.
        place = lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
        first = jnp.where(z == 0, place, z.shape[-1]).min(-1, keepdims=True)
        value = (place == first).astype(z.dtype)
    else:
        value = exponential / total
    return z - jnp.log(total), value


def _tangent(
    scores: Array, temperature: Array, log_value: Array, by_scores: Any, by_temperature: Any
) -> Array:
    """The tangent of scores / temperature, up to a constant per row that drops out of a softmax.

    ``by_scores`` and ``by_temperature`` are the tangents of scores and temperature. The result is 0
    at masked categories.
    """
    total = jnp.zeros_like(log_value)
    if not isinstance(by_scores, custom_derivatives.SymbolicZero):
        total += by_scores / temperature
    if not isinstance(by_temperature, custom_derivatives.SymbolicZero):
        part = log_value * (by_temperature / temperature)
        total -= jnp.where(scores > LOWEST / 2, part, 0.0)
    return total


@functools.partial(_softmaxes.defjvp, symbolic_zeros=True)
def _softmaxes_jvp(hard: bool, primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> Any:
    log_value, soft = _softmaxes(*primals, False)
    value = _softmaxes(*primals, True)[1] if hard else soft
    d = _tangent(*primals, log_value, *tangents)
    d = d - (soft * d).sum(-1, keepdims=True)
    return (log_value, value), (d, soft * d)


@jax.custom_jvp
def _own_terms(scores: Array, temperature: Array, gumbel: Array, unmasked: Array) -> Array:
    """The sum of log_softmax(-gumbel) - log_softmax(scores / temperature), without masked terms.

    The first is the part of a draw's log density on the simplex that depends on the noise alone;
    the second is the drawn log value.
    """
    z, _, total = _shifted(scores, temperature)
    # exp(-gumbel) is an exponential variable and can't overflow, so this sum needs no subtracted
    # maximum.
    other = jnp.where(unmasked, jnp.exp(-gumbel), 0.0).sum(-1)
    other = jnp.log(jnp.maximum(other, jnp.finfo(other.dtype).tiny))
    terms = jnp.where(unmasked, gumbel + z, 0.0).sum(-1)
    return _count(unmasked, terms) * (jnp.log(total)[..., 0] - other) - terms


@functools.partial(_own_terms.defjvp, symbolic_zeros=True)
def _own_terms_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    scores, temperature, _, unmasked = primals
    log_value, value = _softmaxes(scores, temperature, False)
    d = _tangent(scores, temperature, log_value, *tangents[:2])
    found = _own_terms(*primals)
    return found, _count(unmasked, found) * (value * d).sum(-1) - d.sum(-1)


def _count(unmasked: Array, like: Array) -> Array:
    return unmasked.astype(like.dtype).sum(-1)


def _concrete(hard: bool, logits: Array, temperature: Array, gumbel: Array) -> tuple[Array, Array]:
    unmasked, temperature = abs(logits) < HUGE, temperature[..., None]
    # Masked categories get the score LOWEST, whose softmax is exactly 0 at any temperature.
    scores = jnp.where(unmasked, logits, LOWEST) + gumbel
    log_value, value = _softmaxes(scores, temperature, hard)
    log_value, value = jnp.where(unmasked, log_value, -jnp.inf), jnp.where(unmasked, value, 0.0)
    # In compiled code XLA computes only once what a draw and its density share. Elsewhere nothing
    # would be shared, and ``own`` would only keep its arrays alive.
    if not known(log_value):

        def own() -> tuple[Array, Array]:
            terms = _own_terms(scores, temperature, gumbel, unmasked)
            return _count(unmasked, terms), terms

        keep_relaxed(log_value, own, "own")
    return log_value, value


ops.kernels[one_hot.concrete.name] = lambda ops, *given: _concrete(False, *given)
ops.kernels[one_hot.straight_through_concrete.name] = lambda ops, *given: _concrete(True, *given)
ops.kernels[softmaxes.name] = lambda ops, scores, temperature: _softmaxes(
    scores, temperature, False
)


def _own_log_prob(
    ops: Any, logits: Array, temperature: Array, log_value: Array, value: Any = None
) -> Any:
    own = get_relaxed(log_value, "own")
    if own is None:
        return one_hot.own_concrete_log_prob.formula(ops, logits, temperature, log_value)
    number, terms = own()
    k = jnp.maximum(number, 1.0)
    n = logits.shape[-1]
    if isinstance(n, int) and n < len(LGAMMA):
        constant = jnp.asarray(LGAMMA[: n + 1], k.dtype)[k.astype(int)]
    else:
        constant = ops.lgamma(k)
    return constant + (k - 1) * jnp.log(temperature) + terms


ops.kernels[one_hot.own_concrete_log_prob.name] = _own_log_prob


@jax.custom_jvp
def _one_round(scores: Array, temperature: Array) -> Any:
    return subset.one_round.formula(ops, scores, temperature)


@functools.partial(jax.checkpoint, prevent_cse=False)
def _round_tangents(
    signed: Array, rest: Array, temperature: Array, by_scores: Array, shift: Array | None
) -> tuple[Array, Array, Array, Array]:
    """The tangents of a round; ``signed`` is the softmax of the others, with -1 for the largest a.

    A gradient's loop over rounds takes most of its time to store arrays and to read them. So of
    each round only ``signed`` is stored, and the checkpoint computes the others from it.
    """
    top = signed < 0
    part = jnp.where(top, 0.0, signed)
    d = by_scores / temperature
    if shift is not None:
        d -= shift
    of_top = jnp.where(top, d, 0.0).sum(-1, keepdims=True)
    of_others = (part * d).sum(-1, keepdims=True)
    # The tangent of log(1 - a) for the largest a. That of a itself is made of it, since the
    # difference d - sum(a d) would cancel where a is near 1.
    by_top = (1 - rest) * (of_others - of_top)
    a = part * rest
    by_a = jnp.where(top, -rest * by_top, a * (d - of_top - rest * (of_others - of_top)))
    return by_a, jnp.where(top, by_top, by_a / (a - 1)), part * (d - of_others), rest * by_top


@functools.partial(_one_round.defjvp, symbolic_zeros=True)
def _one_round_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> Any:
    (scores, temperature), (by_scores, by_temperature) = primals, tangents
    a, log_left, part, rest = _one_round(scores, temperature)
    shift = None
    if not isinstance(by_temperature, custom_derivatives.SymbolicZero):
        # The scores are shifted by their maximum, which drops out of the softmax.
        z = (scores - lax.stop_gradient(scores.max(-1, keepdims=True))) / temperature
        shift = z * (by_temperature / temperature)
    if isinstance(by_scores, custom_derivatives.SymbolicZero):
        by_scores = jnp.zeros_like(scores)
    signed = jnp.where(subset.largest_score(ops, scores)[0], -1.0, part)
    found = _round_tangents(signed, rest, temperature, by_scores, shift)
    return (a, log_left, part, rest), found


ops.kernels[subset.one_round.name] = lambda ops, *given: _one_round(*given)
