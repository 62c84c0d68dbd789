"""Kernels for moments, entropies and KL divergences, faster if all rows share one temperature.

A kernel is a function that is called in place of the formula of the same name. Temperatures have
the batch's shape, and whether all of them are equal is known only at run time: lax.cond then
chooses the faster formula. This module defines the derivatives of that choice. JAX would
differentiate the chosen branch, which is wrong for the temperatures (see _derived_from), and slow
for the logits.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array, custom_derivatives, lax

from relaxed_dists._distributions import divergences, log_moments, quadrature
from relaxed_dists._distributions.formulas import hot

from .devices import alike, several
from .ops import ops

_Arrays = tuple[Array, ...]
# The least number of rows in a chunk of an entropy or a divergence: on a CPU, XLA makes vector
# instructions for sums over categories only along the rows.
LANES = 8


def _is_zero(x: Any) -> bool:
    """Whether a tangent is known to be zero."""
    return isinstance(x, custom_derivatives.SymbolicZero)


def _dense(tangent: Any, primal: Array) -> Any:
    """A tangent as an array, also if it is a symbolic zero."""
    return jnp.zeros_like(primal) if _is_zero(tangent) else tangent


def _first(temperatures: _Arrays) -> tuple[Array, _Arrays]:
    """Whether the entries of each array are all equal, and the first entry of each array."""
    first = tuple(t[(0,) * t.ndim] for t in temperatures)
    pairs = zip(temperatures, first, strict=True)
    return functools.reduce(jnp.logical_and, [(t == one).all() for t, one in pairs]), first


def _shared(formula: Callable[..., Any], x: Array, t: Array) -> Any:
    """formula(x, t), with a single number as t if all entries of t are equal, which is faster."""
    shared, (first,) = _first((t,))
    return lax.cond(shared, lambda x: formula(x, first), lambda x: formula(x, t), x)


def _derived_from(general: Callable[..., Any], fast: Callable[..., Any]) -> Callable[..., Any]:
    """A function that computes its values by ``fast`` and its derivatives from ``general``.

    ``fast`` has the same values as ``general``, but chooses a branch that depends on the
    temperatures. A branch has wrong derivatives with respect to the temperatures: the branch for a
    pair of equal temperatures does not contain them, so its derivative is 0, and the branch for
    rows with one temperature contains only that of the first row, which would get the derivatives
    of all rows.
    """
    chosen = jax.custom_jvp(fast)
    chosen.defjvp(lambda primals, tangents: jax.jvp(general, primals, tangents))
    return chosen


def _by_temperature(
    formula: Callable[[_Arrays, _Arrays], Array],
    equal: Callable[[_Arrays], Array] | None,
    logits: _Arrays,
    temperatures: _Arrays,
) -> Array:
    """formula(logits, temperatures), faster if all rows have the same temperatures.

    The values and the gradients with respect to the logits are faster; those with respect to the
    temperatures are not.

    Args:
        formula: The formula for any temperatures, which returns one number per row.
        equal: The formula for a pair of distributions with equal temperatures, or None.
        logits: The logits of one or two distributions: one number per row, or a vector.
        temperatures: The temperatures of these distributions, one number per row.
    """
    if 0 in temperatures[0].shape or (equal is None and not temperatures[0].ndim):
        return formula(logits, temperatures)

    def fast(way: Callable[..., Any], logits: _Arrays, temperatures: _Arrays) -> Any:
        shared, first = _first(temperatures)

        def general(logits: _Arrays) -> Any:
            return lax.cond(
                shared,
                way(lambda logits: formula(logits, first)),
                way(lambda logits: formula(logits, temperatures)),
                logits,
            )

        if equal is None:
            return general(logits)
        same = (temperatures[0] == temperatures[1]).all()
        return lax.cond(same, way(equal), general, logits)

    def both(logits: _Arrays, temperatures: _Arrays) -> Any:
        return _value_and_gradients(lambda x: formula(x, temperatures))(logits)

    chosen = jax.custom_jvp(functools.partial(fast, lambda f: f))
    chosen_gradients = _derived_from(both, functools.partial(fast, _value_and_gradients))

    def jvp(primals: Any, tangents: Any) -> Any:
        dense = jax.tree.map(_dense, tangents, primals, is_leaf=_is_zero)
        if not all(_is_zero(x) for x in tangents[1]):
            return jax.jvp(formula, primals, dense)
        value, gradients = chosen_gradients(*primals)
        products = [x * y for x, y in zip(gradients, dense[0], strict=True)]
        return value, sum(x.sum(-1) if x.ndim > value.ndim else x for x in products)

    chosen.defjvp(jvp, symbolic_zeros=True)
    return cast(Array, chosen(logits, temperatures))


def _value_and_gradients(f: Callable[[_Arrays], Array]) -> Callable[[_Arrays], Any]:
    """A function that returns the value of f for each row, and its gradients for the row's logits.

    Each branch of lax.cond calls such a function. If JAX differentiated lax.cond itself, each
    branch would also return the residuals of the other branch.
    """

    def both(logits: _Arrays) -> tuple[Array, _Arrays]:
        value, back = jax.vjp(f, logits)
        return value, back(jnp.ones_like(value))[0]

    return both


def _by_rows(formula: hot) -> Callable[[_Arrays, _Arrays], Any]:
    """A formula as a function of the logits and of the temperatures of all its distributions."""

    def call(logits: _Arrays, temperatures: _Arrays) -> Any:
        pairs = zip(logits, temperatures, strict=True)
        return formula.formula(ops, *(x for pair in pairs for x in pair))

    return call


def _chunked(formula: hot) -> Callable[[Array, Array], Any]:
    """A formula of one distribution of categories, in chunks of rows."""
    by_rows = _by_rows(formula)
    return lambda logits, temperature: _by_chunks(by_rows, 1, 1, (logits,), (temperature,))


def _moments(logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Mean and variance on the simplex, faster if all rows share one temperature."""
    formula = _chunked(quadrature.concrete_moments)
    if 0 in temperature.shape or not temperature.ndim:
        return cast(tuple[Array, Array], formula(logits, temperature))

    def general(logits: Array, temperature: Array, tangent: Array) -> Any:
        return jax.jvp(lambda x: formula(x, temperature), (logits,), (tangent,))[1]

    def fast(logits: Array, temperature: Array, tangent: Array) -> Any:
        # The formula is computed anew for its derivative, so each branch returns nothing else.
        once_more = jax.checkpoint(formula)
        return jax.jvp(lambda x: _shared(once_more, x, temperature), (logits,), (tangent,))[1]

    along = _derived_from(general, fast)
    chosen = jax.custom_jvp(functools.partial(_shared, formula))

    def jvp(primals: Any, tangents: Any) -> Any:
        if not _is_zero(tangents[1]):
            return jax.jvp(formula, primals, tuple(map(_dense, tangents, primals)))
        # The value has its own call: when JAX 0.12 linearizes, all that `along` returns is unknown.
        return chosen(*primals), along(*primals, _dense(tangents[0], primals[0]))

    chosen.defjvp(jvp, symbolic_zeros=True)
    return cast(tuple[Array, Array], chosen(logits, temperature))


def _log_moments(logits: Array, temperature: Array) -> Any:
    """Mean and variance in log space, faster if all rows share one temperature."""
    formula = _chunked(log_moments.exp_concrete_moments)
    if 0 in temperature.shape or not temperature.ndim:
        return formula(logits, temperature)
    return _derived_from(formula, functools.partial(_shared, formula))(logits, temperature)


def _entropy(formula: hot, event: int) -> Callable[[Array, Array], Array]:
    """The kernel of the entropy on the simplex or, if ``event`` is 0, on (0, 1)."""
    chunked = functools.partial(_by_chunks, _by_rows(formula), event, LANES)
    return lambda logits, temperature: _by_temperature(chunked, None, (logits,), (temperature,))


def _kl(formula: hot, equal: Callable[..., Array], event: int) -> Callable[..., Array]:
    """The kernel of a KL divergence between distributions of one batch shape."""
    chunked = functools.partial(_by_chunks, _by_rows(formula), event, LANES)

    def same(logits: _Arrays) -> Any:
        if not event:  # a closed form without an integral
            return equal(ops, *logits)
        return _by_chunks(lambda logits, _: equal(ops, *logits), event, LANES, logits, ())

    return lambda logits, t, other, other_t: _by_temperature(
        chunked, same, (logits, other), (t, other_t)
    )


def _by_chunks(
    way: Callable[[_Arrays, _Arrays], Any],
    event: int,
    least: int,
    logits: _Arrays,
    temperatures: _Arrays,
) -> Any:
    """way(logits, temperatures), in chunks of rows.

    Arrays on several devices are not chunked, since a loop over a sharded axis would gather it, and
    neither are arrays of symbolic shapes.

    Args:
        way: A function that returns an array, or several, with the batch's shape first.
        event: 1 for logits of categories, which are on the last axis; 0 for single logits.
        least: The least number of rows in a chunk.
        logits: Logits of one batch shape.
        temperatures: As many temperatures, or none: single, or of the batch's shape.
    """
    lead = logits[0].ndim - event
    batch, k = logits[0].shape[:lead], logits[0].shape[-1] if event else 2  # a number is a pair
    if several() or not all(isinstance(n, int) for n in (*batch, k)):
        return way(logits, temperatures)
    rows, shared = math.prod(batch), all(not t.ndim for t in temperatures)
    size = max(least, quadrature.rows_of_chunk(rows, k, shared))
    if rows <= size:
        return way(logits, temperatures)
    number = -(-rows // size)

    def split(x: Array) -> Array:
        x = x.reshape(rows, *x.shape[lead:])
        if number * size > rows:  # copies of the first rows fill the last chunk
            x = jnp.concatenate([x, x[: number * size - rows]])
        return x.reshape(number, *([size] if size > 1 else []), *x.shape[1:])

    def join(x: Array) -> Array:
        x = x.reshape(number * size, *x.shape[2 if size > 1 else 1 :])
        return x[:rows].reshape(batch + x.shape[1:])

    # A chunk is computed anew for its derivatives, so that the loop keeps nothing else.
    once_more = jax.checkpoint(way)
    if shared:
        found = lax.map(lambda some: once_more(some, temperatures), tuple(map(split, logits)))
    else:
        parts = tuple(map(split, logits)), tuple(map(split, temperatures))
        found = lax.map(lambda some: once_more(*some), parts)
    return jax.tree.map(join, found)


def _register(formula: hot, way: Callable[..., Any]) -> None:
    compiled = jax.jit(lambda *arrays: way(*alike(arrays)))
    ops.kernels[formula.name] = lambda ops, *arrays: compiled(*arrays)


_register(quadrature.concrete_moments, _moments)
_register(
    quadrature.binary_concrete_moments,
    functools.partial(quadrature.binary_concrete_moments.formula, ops),
)
_register(log_moments.exp_concrete_moments, _log_moments)
_register(divergences.concrete_entropy, _entropy(divergences.concrete_entropy, 1))
_register(divergences.binary_concrete_entropy, _entropy(divergences.binary_concrete_entropy, 0))
_register(
    divergences.concrete_kl,
    _kl(divergences.concrete_kl, divergences.concrete_kl_at_one_temperature, 1),
)
_register(
    divergences.logit_concrete_kl,
    _kl(divergences.logit_concrete_kl, divergences.logit_concrete_kl_at_one_temperature, 0),
)
