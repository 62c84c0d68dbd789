"""Distributions from logits, in JAX alone: the checks of parameters, draws and densities.

NumPyro's adapter makes NumPyro's distributions from the classes of this module. A family is an
object that has the formulas of a distribution, for any framework. A map finds, for the object that
was drawn, its relaxed sample: the numbers before rounding, from which ``log_prob`` computes the
density.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from relaxed_dists import _errors
from relaxed_dists._distributions import estimator_base, formulas
from relaxed_dists._distributions.estimated import Estimated
from relaxed_dists._distributions.family import Parameters
from relaxed_dists._distributions.from_family import FromFamily
from relaxed_dists._ops import ArrayLike

from . import kernels  # noqa: F401 (it registers its kernels with the operations)
from .carrier import find_relaxed, get_relaxed, keep_relaxed
from .devices import on_automatic_axes
from .input import at_once, holds, known, real, result_dtype
from .noise import checked_key, gumbel, logistic
from .ops import compute_dtype, ops


def checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    """The user's shape as a tuple, or an error if it is not a shape but, for example, a number."""
    try:
        return tuple(shape)
    except TypeError as error:
        raise _errors.not_a_shape(name, shape) from error


class Jax:
    """The functions of JAX that the base class FromFamily calls."""

    ops = ops
    known, holds = staticmethod(known), staticmethod(holds)
    compute_dtype = staticmethod(compute_dtype)
    broadcast_to = staticmethod(jnp.broadcast_to)
    broadcast_shapes = staticmethod(jnp.broadcast_shapes)

    @staticmethod
    def cast(x: Array, dtype: Any) -> Array:
        return jnp.asarray(x, dtype)

    @staticmethod
    @functools.cache
    def limits(dtype: Any) -> tuple[float, float, float]:
        finfo = jnp.finfo(dtype)
        return float(finfo.tiny), float(finfo.eps), float(finfo.max)

    @staticmethod
    def inspecting() -> bool:
        return False

    @staticmethod
    def relaxed_site(ours: bool) -> tuple[str, Any, bool] | None:
        return None

    @staticmethod
    def differentiable(value: Array) -> bool:
        return not known(value)  # JAX differentiates tracers only


class FromLogits(FromFamily):
    """A distribution made from a family and logits, and from a temperature unless it is None."""

    logits: Array
    temperature: Any = None
    _before_expand: Array | None = None  # the logits, if this distribution was expanded
    _framework: ClassVar[Any] = Jax()
    _has_temperature: ClassVar[bool] = False

    def __init__(
        self,
        temperature: ArrayLike,
        probs: ArrayLike | None = None,
        logits: ArrayLike | None = None,
        validate: bool = True,
    ) -> None:
        name, event_dim = self._name, self._family.event_dim
        if temperature is None and self._has_temperature:
            raise _errors.bad_temperature(name, temperature)
        _errors.one_of(name, probs, logits)
        with jax.ensure_compile_time_eval():
            what, given = ("logits", logits) if probs is None else ("probs", probs)
            given = real(given, name, what)
            raw = 0.0 if temperature is None else real(temperature, name, "temperature")
        with at_once(given):
            dtype = result_dtype(given, raw)
            given = jnp.asarray(given, dtype)
            if event_dim and 0 in (given.ndim, *given.shape[-1:]):
                raise _errors.no_categories(name, what, given.shape)
            if validate and known(given) and given.size:
                (self._check_logits if probs is None else self._check_probs)(given)
            else:
                # sanitize_logits compares with HUGE, which would overflow in float16.
                wide = given.astype(compute_dtype(given))
                given = formulas.sanitize_logits(ops, wide, event_dim > 0).astype(dtype)
        if probs is not None:
            log = formulas.log_probs if event_dim else formulas.logit
            given = log(ops, given.astype(compute_dtype(given))).astype(dtype)
        split = max(given.ndim - event_dim, 0)
        batch_shape, event_shape = given.shape[:split], given.shape[split:]
        if temperature is not None:
            self.temperature = self._checked_temperature(raw, given, validate)
            batch_shape = self._joint_shape(self.temperature.shape, batch_shape)
            # The temperature gets the batch shape, so that jax.vmap over a distribution can map
            # over the same axis of temperature and logits.
            self.temperature = jnp.broadcast_to(self.temperature, batch_shape)
        self.logits = jnp.broadcast_to(given, batch_shape + event_shape)
        self._validate_args = validate
        if self._family.checks_logits:
            family = self._family = self._family.checked(name, event_shape)
            seen = validate and known(self.logits)
            if seen and not family.possible(np.asarray(self.logits, float)):
                raise family.impossible(name, self.logits)

    def _checked_temperature(
        self, given: Any, like: Array, validate: bool, field: str = "temperature"
    ) -> Array:
        given = real(given, self._name, field)
        with at_once(given):
            temperature = jnp.asarray(given, compute_dtype(like))
            if not validate or not known(temperature):
                return formulas.clamp_temperature(ops, temperature)
            low, high = formulas.COLDEST, formulas.HOTTEST
            if not bool(((temperature >= low) & (temperature <= high)).all()):
                raise _errors.bad_temperature(self._name, given, field)
        return temperature

    # These shapes are not stored but computed from the logits, since jax.vmap over a distribution
    # changes the shape of the logits.

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of independent, differently parameterised events."""
        return jnp.shape(self.logits)[: jnp.ndim(self.logits) - self._family.event_dim]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The event's shape, ``(K,)`` for categories, ``()`` if binary, ``(N, N)`` for matrices."""
        return jnp.shape(self.logits)[jnp.ndim(self.logits) - self._family.event_dim :]

    def _ask(self, method: Callable[..., Any], *given: Any) -> Any:
        return on_automatic_axes(functools.partial(method, ops), self._family.event_dim, given)

    def _noise(self, key: Any, sample_shape: Sequence[int], like: Array) -> Array:
        draw = gumbel if self._family.event_dim else logistic
        return draw(key, (*sample_shape, *self.batch_shape, *self.event_shape), like.dtype)

    def _draw(
        self, key: Any, sample_shape: Sequence[int] = (), gradient: bool = True
    ) -> tuple[Array, list[Any]]:
        """A value, and a list with the relaxed sample behind it; empty if the family keeps none."""
        lead = checked_shape(self._name, sample_shape)

        def draw(p: Parameters, key: Any) -> Any:
            return self._family.draw(ops, p, self._noise(key, lead, p.logits))

        given = self._parameters(), checked_key(key)
        # HardConcrete keeps the masses of its end points. They depend on the parameters alone, so
        # they do not have the sample shape.
        leads = len(lead), 0 if self._family.space == "masses" else len(lead)
        value, sample = on_automatic_axes(draw, self._family.event_dim, given, leads)
        value = self._keep(value if gradient else lax.stop_gradient(value), sample)
        return value, [] if sample is None else [sample]

    def _keep(self, value: Array, sample: Array | None) -> Array:
        value = self._as_value(value)
        if sample is None:
            return value
        if self._family.own_log_prob:
            keep_relaxed(sample, (self.logits, self.temperature), "parameters")
        return keep_relaxed(value, sample, self._family.space)

    def _own(self, sample: Any) -> bool:
        """Whether a sample was drawn from these very parameters: the same arrays or tracers."""
        drawn = get_relaxed(sample, "parameters") or (None, None)
        return drawn[0] is self.logits and drawn[1] is self.temperature

    def log_prob(self, value: ArrayLike, intermediates: list[Any] | None = None) -> Array:
        """The log density of a value, computed from its relaxed sample if the value keeps one.

        Args:
            value: Values of a shape that broadcasts with ``batch_shape + event_shape``.
            intermediates: The intermediates that `sample_with_intermediates` returned with the
                value.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        family = self._family
        sample = find_relaxed(value, intermediates, family.space) if family.space else None
        own = family.own_log_prob is not None and self._own(sample)
        return cast(Array, self._log_prob(value, sample, own, self._is_soft(value, intermediates)))

    def _is_soft(self, value: Any, intermediates: list[Any] | None) -> bool:
        """Whether an estimator made the value soft. Only discrete distributions have estimators."""
        return False

    def _unexpanded(self, p: Parameters, value: Array) -> Parameters:
        # A log_softmax of the expanded logits repeats that of each row. With constant logits XLA
        # even computes all of it while it compiles, which takes seconds for a plate of 10,000.
        few, rank = self._before_expand, self.logits.ndim
        if few is None or not self._family.broadcasts or self.temperature is not None:
            return p
        if value.shape[value.ndim - rank :] != self.logits.shape:
            return p
        few = few.reshape((1,) * (rank - few.ndim) + few.shape)  # strict promotion asks for it
        return p._replace(logits=few.astype(p.logits.dtype))

    def _check_value(self, value: Any) -> Array:
        """The value as a floating array, if its shape fits."""
        value = real(value, self._scorer, "a value")
        if isinstance(value, float) or not jnp.issubdtype(value.dtype, jnp.floating):
            value = jnp.asarray(value, compute_dtype(self.logits))
        expected = self.batch_shape + self.event_shape
        try:
            lax.broadcast_shapes(value.shape, expected)
            fits = value.shape[value.ndim - len(self.event_shape) :] == self.event_shape
        except ValueError:
            fits = False
        if not fits:
            raise _errors.bad_shape(self._scorer, value.shape, expected)
        return value


class EstimatedFromLogits(Estimated, FromLogits):
    """A discrete distribution from a family, logits, and an estimator unless that is None."""

    def _draw(
        self, key: Any, sample_shape: Sequence[int] = (), gradient: bool = True
    ) -> tuple[Array, list[Any]]:
        """A value, and a list: [True] if an estimator made the value soft, else empty."""
        estimator, one_hot = self.estimator, self._family.event_dim > 0
        if estimator is None:
            return super()._draw(key, sample_shape, gradient)
        lead = checked_shape(self._name, sample_shape)

        def draw(p: Parameters, estimator: Any, key: Any) -> Any:
            noise = more = self._noise(key, lead, p.logits)
            if estimator.draws:
                shape = (estimator.draws, *noise.shape, *(() if one_hot else (2,)))
                more = gumbel(random.fold_in(key, 1), shape, p.logits.dtype)
            return estimator_base.value(ops, estimator, one_hot, p.logits, noise, more)

        given = self._parameters(), estimator, checked_key(key)
        value = on_automatic_axes(draw, self._family.event_dim, given, len(lead))
        value = value.astype(self.logits.dtype)
        return (keep_relaxed(value, True, "soft"), [True]) if estimator.soft else (value, [])
