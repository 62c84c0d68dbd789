"""Moments, entropies and KL divergences by quadrature, compiled, with tables shared by rows."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, custom_derivatives, lax

from relaxed_dists import _divergences, _quadrature
from relaxed_dists._log_moments import exp_concrete_moments

from ._ops import ops

_Arrays = tuple[Array, ...]


def _by_temperature(
    formula: Callable[[_Arrays, _Arrays], Any],
    equal: Callable[[_Arrays], Any] | None,
    logits: _Arrays,
    temperatures: _Arrays,
    number: bool = True,
) -> Any:
    """formula(logits, temperatures), faster where the temperatures are numbers shared by all rows.

    Temperatures are broadcast to the batch, so that this is known only when it runs. It matters for
    the speed alone: where a temperature is differentiated each row keeps its own. The formula is
    a number a row, of logits of the batch's shape, or not.
    """
    if 0 in temperatures[0].shape or not (temperatures[0].ndim or equal):
        return formula(logits, temperatures)

    def fast(way: Callable[..., Any], logits: _Arrays, temperatures: _Arrays) -> Any:
        first = tuple(t.reshape(-1)[0] for t in temperatures)
        pairs = zip(temperatures, first, strict=True)
        shared = functools.reduce(jnp.logical_and, [(t == one).all() for t, one in pairs])

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

    chosen = jax.custom_jvp(functools.partial(fast, lambda f: f))

    def jvp(primals: Any, tangents: Any) -> Any:
        def still(x: Any) -> bool:
            return isinstance(x, custom_derivatives.SymbolicZero)

        def dense(x: Any) -> Any:
            return jnp.zeros(x.shape, x.dtype) if still(x) else x

        dense_tangents = jax.tree.map(dense, tangents, is_leaf=still)
        if not all(still(x) for x in tangents[1]):
            return jax.jvp(formula, primals, dense_tangents)
        if not number:
            through = functools.partial(fast, lambda f: f, temperatures=primals[1])
            return jax.jvp(through, primals[:1], dense_tangents[:1])
        value, gradients = fast(_value_and_gradients, *primals)
        products = [x * y for x, y in zip(gradients, dense_tangents[0], strict=True)]
        return value, sum(x.sum(-1) if x.ndim > value.ndim else x for x in products)

    chosen.defjvp(jvp, symbolic_zeros=True)
    return chosen(logits, temperatures)


def _value_and_gradients(f: Callable[[_Arrays], Array]) -> Callable[[_Arrays], Any]:
    """A number a row, and its gradients by the row's logits: inside a branch.

    The derivative of a branch would hand out all that the branches keep for the way back.
    """

    def both(logits: _Arrays) -> tuple[Array, _Arrays]:
        value, back = jax.vjp(f, logits)
        return value, back(jnp.ones_like(value))[0]

    return both


@functools.partial(jax.jit, static_argnums=0)
def moments(rows: bool, logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Mean and variance on the simplex, or on (0, 1)."""
    law = _quadrature.concrete_moments if rows else _quadrature.binary_concrete_moments
    return _by_temperature(
        lambda x, t: law(ops, x[0], t[0]), None, (logits,), (temperature,), False
    )


@jax.jit
def log_moments(logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Mean and variance in log space."""
    return _by_temperature(
        lambda x, t: exp_concrete_moments(ops, x[0], t[0]), None, (logits,), (temperature,), False
    )


@functools.partial(jax.jit, static_argnums=0)
def entropy(rows: bool, logits: Array, temperature: Array) -> Array:
    """The entropy on the simplex, or on (0, 1)."""
    law = _divergences.concrete_entropy if rows else _divergences.binary_concrete_entropy
    return _by_temperature(lambda x, t: law(ops, x[0], t[0]), None, (logits,), (temperature,))


@functools.partial(jax.jit, static_argnums=0)
def kl(rows: bool, p: tuple[Array, Array], q: tuple[Array, Array]) -> Array:
    """KL(p, q) from logits and temperature of each."""
    law = _divergences.concrete_kl if rows else _divergences.logit_concrete_kl
    equal = _divergences.concrete_kl_at_one_temperature
    binary = _divergences.logit_concrete_kl_at_one_temperature
    shape = jnp.broadcast_shapes(p[1].shape, q[1].shape)
    whole = (*shape, p[0].shape[-1]) if rows else shape
    return _by_temperature(
        lambda x, t: law(ops, x[0], t[0], x[1], t[1]),
        lambda x: (equal if rows else binary)(ops, *x),
        (jnp.broadcast_to(p[0], whole), jnp.broadcast_to(q[0], whole)),
        (jnp.broadcast_to(p[1], shape), jnp.broadcast_to(q[1], shape)),
    )
