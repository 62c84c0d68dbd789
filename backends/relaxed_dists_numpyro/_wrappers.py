"""Masked and independent distributions whose draws keep their relaxed sample for log_prob.

NumPyro's own wrappers would lose the sample, since they drop a draw's intermediates or copy its
value. The methods of these wrappers that return a distribution return such a wrapper again, so that
wrappers can be nested in any order.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions.distribution import Distribution, Independent, MaskedDistribution

from relaxed_dists import _errors
from relaxed_dists_jax.carrier import carried

from . import _older


class _Wrapper(Distribution):
    """A wrapper around an inner distribution, whose shapes determine the wrapper's shapes."""

    base_dist: Distribution
    _rightmost = 0  # how many inner batch dimensions become event dimensions

    # NumPyro stores the shapes when it makes a wrapper. Here they are properties, since the inner
    # distribution's shapes change inside vmap and after scan.

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of independent, differently parameterised events."""
        shape = self.base_dist.batch_shape
        return shape[: len(shape) - self._rightmost]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one event."""
        shape = self.base_dist.batch_shape
        return shape[len(shape) - self._rightmost :] + self.base_dist.event_shape

    @property
    def mode(self) -> Array:
        """The most probable value, which is the mode of the inner distribution."""
        return self.base_dist.mode

    def cdf(self, value: Any) -> Array:
        """Raises an error, which says to call the inner distribution's method."""
        raise self._missing("cdf")

    def icdf(self, q: Any) -> Array:
        """Raises an error, which says to call the inner distribution's method."""
        raise self._missing("icdf")

    def _missing(self, what: str) -> NotImplementedError:
        inner = self.base_dist
        while isinstance(inner, _Wrapper):
            inner = inner.base_dist
        return _errors.missing_outside(type(inner).__name__, what)

    def mask(self, mask: Any) -> "_Masked":
        """The same distribution, with a log density of 0 where the mask is false."""
        return _Masked(self, mask)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Distribution:
        """The distribution with its rightmost batch dimensions as event dimensions."""
        return to_event(self, reinterpreted_batch_ndims)


class _Masked(_Wrapper, MaskedDistribution):
    def entropy(self) -> Array:
        raise self._missing("entropy")

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        return self.base_dist.sample_with_intermediates(key, sample_shape)

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        if self._mask is False:  # the inner log_prob isn't called, since it may raise an error
            return super().log_prob(value)
        mask = jnp.asarray(self._mask)
        if not intermediates and not carried(value):
            # A value that the mask hides may be anything, even NaN. As in NumPyro, a valid value
            # replaces it. The zeros give all arrays the sharding of the value, which jnp.where
            # needs on explicit axes.
            value = jnp.asarray(value)
            zeros = jnp.zeros_like(value)
            events = jnp.reshape(mask, mask.shape + (1,) * self.event_dim) | zeros.astype(bool)
            feasible = zeros + self.base_dist.support.feasible_like(value)
            value = jnp.where(events, value, feasible)
        return jnp.where(mask, self.base_dist.log_prob(value, intermediates), 0.0)

    def expand(self, batch_shape: Sequence[int]) -> "_Masked":
        # The inner distribution is expanded, not its draws, so that a draw and the relaxed sample
        # that the draw keeps have the same shape.
        mask, shape = self._mask, tuple(batch_shape)
        mask = mask if isinstance(mask, bool) else jnp.broadcast_to(mask, shape)
        return _Masked(self.base_dist.expand(shape), mask)


class _Independent(_Wrapper, Independent):
    @property
    def _rightmost(self) -> int:  # type: ignore[override]
        return self.reinterpreted_batch_ndims

    @property
    def support(self) -> Any:
        """The constraint on all entries of an event."""
        return _older.independent(self.base_dist.support, self._rightmost)

    # NumPyro's class passes intermediates along from 0.22 on.

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        return self.base_dist.sample_with_intermediates(key, sample_shape)

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        density = self.base_dist.log_prob(value, intermediates)
        return density.sum(range(-self._rightmost, 0))

    def enumerate_support(self, expand: bool = True) -> Array:
        raise self._missing("enumerate_support")

    def expand(self, batch_shape: Sequence[int]) -> Distribution:
        inner = tuple(batch_shape) + self.event_shape[: self._rightmost]
        return to_event(self.base_dist.expand(inner), self._rightmost)


def to_event(distribution: Distribution, ndims: int | None) -> Distribution:
    """The distribution with its rightmost batch dimensions as event dimensions."""
    ndims = len(distribution.batch_shape) if ndims is None else ndims
    return _Independent(distribution, ndims) if ndims else distribution
