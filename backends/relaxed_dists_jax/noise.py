"""JAX's noise: Gumbel and logistic, with exact tails."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from relaxed_dists import _errors

from . import older
from .devices import several

FEW = 64  # up to so many words JAX's own primitive makes them: its loop takes little time then
MOST = 2**32  # how many counters one word of 32 bits can tell apart


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
    """Two random words for each counter (x, y): Threefry-2x32 (Salmon et al., 2011), unrolled."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = x + keys[0], y + keys[1]
    for i in range(5):
        for shift in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            x += y
            y = x ^ (y << shift | y >> 32 - shift)
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + (i + 1)
    return x, y


def checked_key(key: Any) -> Any:
    """The key, if it is a random key, and otherwise an error."""
    _implementation(key)
    return key


def is_key(key: Any) -> bool:
    """Whether an object is one random key."""
    try:
        checked_key(key)
    except ValueError:
        return False
    return True


@functools.partial(jax.jit, static_argnums=1)
def _threefry(key: Array, number: int) -> Array:
    """A flat array of random words of 32 bits.

    Each counter yields two words, and both are used; jax.random.bits uses only one.
    """
    # The counters here are (i, 1), so that they yield other words than those of jax.random, which
    # are (0, i) for fewer than 2^32 numbers.
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

    So each device makes its own words of a sharded array, however the array is sharded. To
    concatenate the two words of all counters, as in ``_threefry``, XLA would gather the words of
    all devices. Here each place computes both words of its counter, and uses one of them.
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
    # Noise is made from random bits, since jax.random.uniform has a grid of 2^-23, which cuts the
    # Gumbel tail at 15.9. On one device the bits are drawn as a flat array, since XLA's loop over a
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
    """Standard logistic noise with exact tails: one bit makes the sign, the others the size."""
    bits, width = _bits(key, shape, dtype)
    u = ((bits >> 1).astype(dtype) + 0.5) * 2.0 ** (1 - width)  # twice the tail probability
    size = jnp.log(2.0 / u - 1.0)
    return jnp.where((bits & 1) == 1, size, -size)
