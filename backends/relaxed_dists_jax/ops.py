"""JAX's array operations, with which the formulas for both frameworks compute."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, custom_derivatives, lax

from relaxed_dists import _errors
from relaxed_dists._distributions import permutation

from . import older
from .devices import several

LGAMMA = [math.inf] + [math.lgamma(k) for k in range(1, 64)]


class _JaxOps:
    def __init__(self) -> None:
        self.kernels: dict[str, Callable[..., Any]] = {}  # kernels.py and others add theirs

    exp = staticmethod(jnp.exp)
    log = staticmethod(jnp.log)
    softplus = staticmethod(jax.nn.softplus)
    sigmoid = staticmethod(jax.nn.sigmoid)
    digamma = staticmethod(lax.digamma)
    expm1 = staticmethod(jnp.expm1)
    stop_gradient = staticmethod(lax.stop_gradient)

    def slope(self, logits: Array, p: Array) -> Array:
        return _slope(logits, p)

    def lgamma(self, x: Array) -> Array:
        # x is a number of categories. A table has the values at small x, since XLA's lgamma has an
        # error of 4 ulp at 10, and of 5e-7 at 1 and 2, where the exact value is 0: log_prob of a
        # point mass would not be 0.
        table = jnp.asarray(LGAMMA, x.dtype)[jnp.clip(x, 0, len(LGAMMA) - 1).astype(int)]
        return jnp.where(x < len(LGAMMA), table, lax.lgamma(x))

    def log1p(self, x: Array) -> Array:
        if x.dtype != jnp.float64:
            return jnp.log1p(x)
        # XLA's log1p is wrong by 3e-14 at -0.41, where log(1 + x) is right.
        return jnp.where(x < -0.25, jnp.log(1 + x), jnp.log1p(x))

    def log_softmax(self, x: Array) -> Array:
        return jax.nn.log_softmax(x, -1)

    def sum(self, x: Array) -> Array:
        return x.sum(-1)

    def where(self, condition: Array, x: Array | float, y: Array | float) -> Array:
        return jnp.where(condition, x, y)

    def clip(self, x: Array, low: float, high: float) -> Array:
        return jnp.clip(x, low, high)

    def stack(self, x: Array, y: Array) -> Array:
        return jnp.stack([x, y], -1)

    def one_hot_argmax(self, x: Array) -> Array:
        # XLA compiles argmax to a loop over single numbers, which is slow.
        place = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
        largest = x == x.max(-1, keepdims=True)
        first = jnp.where(largest, place, x.shape[-1]).min(-1, keepdims=True)
        return (place == first).astype(x.dtype)

    def top(self, x: Array, k: int) -> Array:
        if several():  # XLA gathers a sharded argument of lax.top_k, but not that of a sort
            place = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
            places = lax.sort_key_val(-x, place)[1][..., :k]
        else:
            places = lax.top_k(x, k)[1]
        # jnp.put_along_axis isn't used, since it refuses symbolic shapes.
        put = _put_ones
        for _ in x.shape[1:]:
            put = jax.vmap(put)
        return put(jnp.zeros_like(x), places)

    def matching(self, x: Array) -> Array:
        if not all(isinstance(n, int) for n in x.shape):
            raise permutation.no_symbolic_matching(x.shape)
        # The callback returns booleans, since the context enable_x64, which allows float64, does
        # not extend to the callback's thread.
        shape = jax.ShapeDtypeStruct(x.shape, bool)
        found = jax.pure_callback(_assignment, shape, x, vmap_method="expand_dims")
        return found.astype(x.dtype)

    def max(self, x: Array) -> Array:
        return x.max(-1)

    def constant(self, values: Any, like: Array) -> Array:
        return jnp.asarray(values, like.dtype)

    def is_double(self, x: Array) -> bool:
        return x.dtype == jnp.float64

    def interpolate(self, tables: list[Array], position: Array) -> list[Array]:
        position = jnp.clip(position, 0, tables[0].shape[-1] - 1)
        # On a CPU, truncating is several times faster than rounding, and one gather for each
        # coefficient is several times faster than one gather for all coefficients.
        index = lax.stop_gradient(position + 0.5).astype(jnp.int32)
        place = position - index.astype(position.dtype)
        return [
            functools.reduce(
                lambda y, c: y * place + _take(c, index), table[-2::-1], _take(table[-1], index)
            )
            for table in tables
        ]

    def integrate(
        self, f: Callable[[Array], Sequence[Array]], points: Any, weights: Any, like: Array
    ) -> list[Array]:
        t, w = self.constant(points, like), self.constant(weights, like)

        # lax.scan loops over the points, so that the memory does not grow with their number.
        def step(totals: list[Array], point: tuple[Array, Array]) -> tuple[list[Array], None]:
            parts = f(point[0])
            return [a + point[1] * b for a, b in zip(totals, parts, strict=True)], None

        # This call of f only tells the shapes and types of its results; XLA drops the numbers.
        totals = [jnp.zeros_like(x) for x in f(t[0])]
        return lax.scan(step, totals, (t, w))[0]

    def columns(self, x: Array) -> Array:
        return jnp.moveaxis(x, -1, 0) if several() else x.reshape(-1, x.shape[-1]).T

    def rows(self, x: Array, like: Array) -> Array:
        return jnp.moveaxis(x, 0, -1).reshape(like.shape)

    def total(self, x: Array) -> Array:
        return x.sum(0, keepdims=True)

    def dot(self, x: Array, y: Array) -> Array:
        return jnp.tensordot(x, y, 1, precision=lax.Precision.HIGHEST)

    def scan(self, step: Callable[..., Any], start: Any, values: Any, number: int) -> Any:
        return lax.scan(step, start, values, number, reverse=values is not None)

    def sums(self, basis: Any, a: Array, v: Array) -> Array:
        def jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
            (a, v), (da, dv) = primals, tangents
            derivative = self.constant(basis.derivative, a)
            return sums(a, v), sums(a, dv) + self.dot(derivative, sums(a, v * da))

        sums: Any = jax.custom_jvp(functools.partial(basis.sums, self))
        sums.defjvp(jvp)
        return sums(a, v)

    def series(self, basis: Any, a: Array, c: Array) -> Array:
        def jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
            (a, c), (da, dc) = primals, tangents
            slope = self.dot(self.constant(basis.derivative.T, a), c)
            return series(a, c), series(a, dc) + series(a, slope) * da

        def formula(a: Array, c: Array) -> Array:
            return older.linear(functools.partial(basis.series, self, a), c)

        series: Any = jax.custom_jvp(formula)
        series.defjvp(jvp)
        return series(a, c)

    def with_gradient(
        self, function: Callable[..., list[Array | None]], *arguments: Array
    ) -> Array:
        none = [False] * len(arguments)
        value: Any = jax.custom_jvp(lambda *arguments: function(none, *arguments)[0])

        def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
            wanted = [not isinstance(x, custom_derivatives.SymbolicZero) for x in tangents]
            total: Any
            total, *gradients = function(wanted, *primals)
            tangent = jnp.zeros_like(total)
            for i, (gradient, x) in enumerate(zip(gradients, tangents, strict=True)):
                if wanted[i] and gradient is not None:
                    tangent += gradient * x if i else (gradient * x).sum(-1)
            return total, tangent

        value.defjvp(jvp, symbolic_zeros=True)
        return value(*arguments)


def _assignment(x: Any) -> Any:
    return permutation.assignment(np.asarray(x)) > 0


@jax.custom_jvp
def _slope(logits: Array, p: Array) -> Array:
    return jnp.zeros_like(p)


@_slope.defjvp
def _slope_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    p, t = _once(primals[1]), tangents[0]
    return jnp.zeros_like(p), p * (t - (p * t).sum(-1, keepdims=True))


@jax.custom_jvp
def _once(x: Array) -> Array:
    return x


@_once.defjvp
def _once_jvp(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(_errors.NO_SECOND)


def _take(row: Array, index: Array) -> Array:
    if row.ndim == 1:  # the same interpolation table for all rows
        return row.at[index].get(mode="clip")
    row = row.reshape(*(1,) * (index.ndim - row.ndim), *row.shape)
    return jnp.take_along_axis(row, index, -1, mode="clip")


def _put_ones(zeros: Array, places: Array) -> Array:
    return zeros.at[places].set(1.0)


ops = _JaxOps()


def compute_dtype(*arrays: Array) -> jnp.dtype:
    """The dtype to compute in: at least float32, since float16 and bfloat16 cut off the tails."""
    # jnp.result_type isn't used: under strict promotion it refuses to mix float16 and float32.
    double = any(x.dtype == jnp.float64 for x in arrays)
    return jnp.dtype(jnp.float64 if double else jnp.float32)
