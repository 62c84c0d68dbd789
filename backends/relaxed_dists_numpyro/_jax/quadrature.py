"""Moments, entropies and KL divergences by quadrature, compiled, with tables shared by rows."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array, custom_derivatives, lax

from relaxed_dists._distributions import divergences, log_moments, quadrature
from relaxed_dists._distributions.formulas import hot

from .ops import ops

_Arrays = tuple[Array, ...]


def _still(x: Any) -> bool:
    return isinstance(x, custom_derivatives.SymbolicZero)


def _dense(x: Any) -> Any:
    return jnp.zeros(x.shape, x.dtype) if _still(x) else x


def _first(temperatures: _Arrays) -> tuple[Array, _Arrays]:
    """Whether each of the temperatures is one number for all rows, and these numbers."""
    first = tuple(t.reshape(-1)[0] for t in temperatures)
    pairs = zip(temperatures, first, strict=True)
    return functools.reduce(jnp.logical_and, [(t == one).all() for t, one in pairs]), first


def _shared(formula: Callable[..., Any], x: Array, t: Array) -> Any:
    """formula(x, t), faster where t is one number for all rows."""
    shared, (first,) = _first((t,))
    return lax.cond(shared, lambda x: formula(x, first), lambda x: formula(x, t), x)


def _once(fast: Callable[..., Any], general: Callable[..., Any]) -> Callable[..., Any]:
    """fast, for values only, and for derivatives general: the same function of logits and
    temperatures, where fast chooses a branch by the temperatures.

    The derivative of a branch by a temperature is not that of the function: of the one where the
    temperatures are equal it is 0, of the one where they are shared all falls on the first row.
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
    """formula(logits, temperatures), faster where the temperatures are numbers shared by all rows.

    Temperatures are broadcast to the batch, so that this is known only when it runs. It matters for
    the speed alone, of the values and of their gradients by the logits. The formula is a number a
    row, of logits of the batch's shape, or not.
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

    def jvp(primals: Any, tangents: Any) -> Any:
        dense = jax.tree.map(_dense, tangents, is_leaf=_still)
        if not all(_still(x) for x in tangents[1]):
            return jax.jvp(formula, primals, dense)
        value, gradients = _once(functools.partial(fast, _value_and_gradients), both)(*primals)
        products = [x * y for x, y in zip(gradients, dense[0], strict=True)]
        return value, sum(x.sum(-1) if x.ndim > value.ndim else x for x in products)

    chosen.defjvp(jvp, symbolic_zeros=True)
    return cast(Array, chosen(logits, temperatures))


def _value_and_gradients(f: Callable[[_Arrays], Array]) -> Callable[[_Arrays], Any]:
    """A number a row, and its gradients by the row's logits: inside a branch.

    The derivative of a branch would hand out all that the branches keep for the way back.
    """

    def both(logits: _Arrays) -> tuple[Array, _Arrays]:
        value, back = jax.vjp(f, logits)
        return value, back(jnp.ones_like(value))[0]

    return both


def _moments(logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Mean and variance on the simplex, faster where one temperature is shared by all rows."""
    formula = functools.partial(quadrature.concrete_moments.formula, ops)
    if 0 in temperature.shape or not temperature.ndim:
        return formula(logits, temperature)

    chosen = jax.custom_jvp(functools.partial(_shared, formula))

    def jvp(primals: Any, tangents: Any) -> Any:
        if not _still(tangents[1]):
            return jax.jvp(formula, primals, tuple(_dense(x) for x in tangents))
        logits, temperature = primals
        rule, narrow, offsets = quadrature.moment_places(ops, logits, temperature)

        def lookups(offsets: Array, narrow: Array) -> Any:
            """The integrands' functions at all nodes, and their derivatives by the offsets."""
            functions, ones = (
                quadrature.moment_functions(ops, rule, narrow),
                jnp.ones_like(offsets),
            )

            def at(t: Array) -> Any:
                return jax.jvp(functools.partial(functions, t), (offsets,), (ones,))

            return lax.map(at, ops.constant(rule.outer, offsets))

        values, slopes = _once(functools.partial(_shared, lookups), lookups)(offsets, narrow)

        def near(logits: Array) -> tuple[Array, Array]:
            _, _, here = quadrature.moment_places(ops, logits, temperature)
            moved = here - offsets
            lines = (v + d * moved for v, d in zip(values, slopes, strict=True))
            steps = ops.constant(rule.steps, logits)
            terms = quadrature.moment_terms(ops, *lines)
            return quadrature.moments_from(
                ops, temperature, *(jnp.tensordot(steps, x, 1, precision="highest") for x in terms)
            )

        return jax.jvp(near, (logits,), (_dense(tangents[0]),))

    chosen.defjvp(jvp, symbolic_zeros=True)
    return cast(tuple[Array, Array], chosen(logits, temperature))


def _log_moments(logits: Array, temperature: Array) -> Any:
    """Mean and variance in log space."""
    formula = functools.partial(log_moments.exp_concrete_moments.formula, ops)
    if 0 in temperature.shape or not temperature.ndim:
        return formula(logits, temperature)
    return _once(functools.partial(_shared, formula), formula)(logits, temperature)


def _entropy(formula: hot) -> Callable[[Array, Array], Array]:
    """The entropy on the simplex, or on (0, 1)."""
    return lambda logits, temperature: _by_temperature(
        lambda x, t: formula.formula(ops, x[0], t[0]), None, (logits,), (temperature,)
    )


def _kl(formula: hot, equal: Callable[..., Array]) -> Callable[..., Array]:
    """A KL divergence, whose parameters have the batch's shape."""
    return lambda logits, t, other, other_t: _by_temperature(
        lambda x, t: formula.formula(ops, x[0], t[0], x[1], t[1]),
        lambda x: equal(ops, *x),
        (logits, other),
        (t, other_t),
    )


def _register(formula: hot, way: Callable[..., Any]) -> None:
    compiled = jax.jit(way)
    ops.kernels[formula.name] = lambda ops, *arrays: compiled(*arrays)


_register(quadrature.concrete_moments, _moments)
_register(
    quadrature.binary_concrete_moments,
    functools.partial(quadrature.binary_concrete_moments.formula, ops),
)
_register(log_moments.exp_concrete_moments, _log_moments)
for _formula in (divergences.concrete_entropy, divergences.binary_concrete_entropy):
    _register(_formula, _entropy(_formula))
_register(
    divergences.concrete_kl,
    _kl(divergences.concrete_kl, divergences.concrete_kl_at_one_temperature),
)
_register(
    divergences.logit_concrete_kl,
    _kl(divergences.logit_concrete_kl, divergences.logit_concrete_kl_at_one_temperature),
)
