"""JAX's operations for the formulas, and its noise."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import digamma, gammaln


class _JaxOps:
    exp = staticmethod(jnp.exp)
    log = staticmethod(jnp.log)
    log1p = staticmethod(jnp.log1p)
    softplus = staticmethod(jax.nn.softplus)
    lgamma = staticmethod(gammaln)
    digamma = staticmethod(digamma)
    stop_gradient = staticmethod(lax.stop_gradient)

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
        return jax.nn.one_hot(x.argmax(-1), x.shape[-1], dtype=x.dtype)


ops = _JaxOps()


def compute_dtype(*arrays: Array) -> jnp.dtype:
    """The dtype to compute in: float32 in place of the halves, whose tails are wrong outright."""
    return jnp.result_type(jnp.float32, *(x.dtype for x in arrays))


def _bits(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> tuple[Array, int]:
    # Integer bits, not jax.random.uniform: its grid of 2^-23 cuts the Gumbel tail at 15.9.
    width = 64 if dtype == jnp.float64 else 32
    return jax.random.bits(key, shape, jnp.uint64 if width == 64 else jnp.uint32), width


def gumbel(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard Gumbel noise whose upper tail reaches 2^-33 (2^-65 in float64)."""
    bits, width = _bits(key, shape, dtype)
    u = (bits.astype(dtype) + 0.5) * 2.0**-width
    # The clamp: the largest integers round up to u = 1, where log1p(-u) is infinite.
    u = jnp.minimum(u, 1 - jnp.finfo(dtype).eps / 2)
    return -jnp.log(-jnp.log1p(-u))


def logistic(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard logistic noise, both tails alike: one bit for the sign, the others for the size."""
    bits, width = _bits(key, shape, dtype)
    u = ((bits >> 1).astype(dtype) + 0.5) * 2.0**-width  # in (0, 1/2]
    size = jnp.log1p(-u) - jnp.log(u)
    return jnp.where((bits & 1) == 1, size, -size)
