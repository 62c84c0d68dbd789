"""Gumbel and logistic noise of JAX, with exact tails."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from relaxed_dists import _errors

from . import older
from .devices import several

FEW = 64  # up to this number of words, JAX's own primitive is called: its loop is cheap then
MOST = 2**32  # the number of counters that one word of 32 bits can count


@functools.cache
def _raw_shape(impl: str) -> tuple[int, ...]:
    """The shape of a generator's old-style keys, which are plain arrays of random words."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=impl))).shape


def _implementation(key: Any) -> tuple[str, bool]:
    """The name of a key's generator, and whether the key is new-style; an error if it is no key."""
    shape, dtype = getattr(key, "shape", None), getattr(key, "dtype", None)
    default: str = jax.config.jax_default_prng_impl  # type: ignore[attr-defined]
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if shape == ():
            return older.key_impl(key), True
    elif dtype == jnp.uint32 and shape == _raw_shape(default):
        return default, False
    raise _errors.not_a_key(key)


def _rounds(key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al., 2011), unrolled: two words of each counter."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = x + keys[0], y + keys[1]
    for i in range(5):
        for shift in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            x += y
            y = x ^ (y << shift | y >> 32 - shift)
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + (i + 1)
    return x, y


def checked_key(key: Any) -> Any:
    """A random key; an error if it is none."""
    _implementation(key)
    return key


@functools.partial(jax.jit, static_argnums=1)
def _threefry(key: Array, number: int) -> Array:
    """A flat array of random words of 32 bits.

    Each counter yields two words, and both are used; jax.random.bits uses only one.
    """
    # The counters of jax.random are (0, i) for fewer than 2^32 numbers. Those here are (i, 1), so
    # that they yield other words.
    x = lax.iota(jnp.uint32, (number + 1) // 2)
    y = jnp.full_like(x, 1)
    # Under jax.export the number may be symbolic, so that it can't be compared with FEW. Both
    # branches return the same words.
    if isinstance(number, int) and number <= FEW:
        from jax.extend.random import threefry2x32_p  # here, since jax.extend takes 40 ms to import

        x, y = threefry2x32_p.bind(key[0], key[1], x, y)
    else:
        x, y = _rounds(key, x, y)
    return jnp.concatenate([x, y])[:number]


@functools.partial(jax.jit, static_argnums=1)
def _threefry_by_place(key: Array, shape: tuple[int, ...]) -> Array:
    """The words of ``_threefry`` in a shape, each computed from its place alone.

    So each device makes its own words of a sharded array, however it is sharded. Concatenating
    halves would gather the words of all devices. One of a counter's two words is used.
    """
    place, row = jnp.zeros(shape, jnp.uint32), jnp.ones(shape, jnp.uint32)
    number, rows = 1, 1
    for axis in reversed(range(len(shape))):
        here, size = lax.broadcasted_iota(jnp.uint32, shape, axis), shape[axis]
        if isinstance(size, int) and isinstance(number, int) and number * size > MOST:
            row += here * jnp.asarray(rows, jnp.uint32)
            rows *= size
        else:
            place += here * jnp.asarray(number, jnp.uint32)
            number *= size
    if rows > 1:
        return _rounds(key, place, row)[0]
    half = jnp.asarray((number + 1) // 2, jnp.uint32)
    first = place < half
    return jnp.where(first, *_rounds(key, jnp.where(first, place, place - half), row))


def _bits(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> tuple[Array, int]:
    # The numbers are made from integer bits, since jax.random.uniform has a grid of 2^-23, which
    # cuts the Gumbel tail at 15.9. On one device the bits are drawn flat, since XLA's loop over a
    # short last axis takes twice the time.
    (implementation, typed), number = _implementation(key), math.prod(shape)
    by_place = several() or (isinstance(number, int) and number > MOST)
    drawn = shape if by_place else (number,)
    if dtype == jnp.float64:
        return jax.random.bits(key, drawn, jnp.uint64).reshape(shape), 64
    if implementation == "threefry2x32":
        key = jax.random.key_data(key) if typed else key
        bits = _threefry_by_place(key, shape) if by_place else _threefry(key, number)
    else:
        bits = jax.random.bits(key, drawn, jnp.uint32)
    return bits.reshape(shape), 32


def gumbel(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard Gumbel noise, exact in the upper tail to probability 2^-33 (2^-65 in float64)."""
    bits, width = _bits(key, shape, dtype)
    u = (bits.astype(dtype) + 0.5) * 2.0**-width
    # The largest integers round up to u = 1, where log1p(-u) is infinite, so u is clamped.
    u = jnp.minimum(u, 1 - jnp.finfo(dtype).eps / 2)
    return -jnp.log(-jnp.log1p(-u))


def logistic(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard logistic noise with exact tails: one bit is the sign, the others make the size."""
    bits, width = _bits(key, shape, dtype)
    u = ((bits >> 1).astype(dtype) + 0.5) * 2.0 ** (1 - width)  # twice the smaller tail probability
    size = jnp.log(2.0 / u - 1.0)
    return jnp.where((bits & 1) == 1, size, -size)
