"""What all distributions share in JAX: parameters and their checks, pytrees, expand, noise."""

from collections.abc import Sequence
from typing import Any, Self, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.distributions import constraints
from numpyro.distributions.batch_util import vmap_over
from numpyro.distributions.continuous import RelaxedBernoulliLogits
from numpyro.distributions.distribution import Distribution
from numpyro.infer.elbo import ELBO

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas, machinery
from relaxed_dists._distributions.elbo import relaxed_site
from relaxed_dists._distributions.estimators import renewed, shown
from relaxed_dists._distributions.missing import Missing

from ._jax.input import at_once, holds, known, real, result_dtype
from ._jax.noise import gumbel, logistic
from ._jax.ops import compute_dtype, ops
from ._wrappers import _Masked, to_event


class LogitsDistribution(Missing, Distribution):
    """A law with logits, and with a temperature unless it is None."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _rows = True  # whether the last axis of the logits holds categories
    _square = False  # whether a matrix of scores, of their last two axes, is one event
    _static: tuple[str, ...] = ()  # the names of what else the law has, no leaves of it
    logits: Array
    temperature: Any = None
    estimator: Any = None
    _validate_args: bool

    def __init__(
        self,
        probs: Any,
        logits: Any,
        temperature: Any = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        name = type(self).__name__
        _errors.one_of(name, probs, logits)
        validate = self._validate_args if validate_args is None else validate_args
        with jax.ensure_compile_time_eval():
            what, given = ("logits", logits) if probs is None else ("probs", probs)
            given = real(given, name, what)
            heat = 0.0 if temperature is None else real(temperature, name, "temperature")
        with at_once(given):
            dtype = result_dtype(given, heat)
            given = jnp.asarray(given, dtype)
            if self._rows and 0 in (given.ndim, *given.shape[-1:]):
                raise _errors.no_categories(name, what, given.shape)
            if validate and known(given) and given.size:
                (self._check_logits if probs is None else self._check_probs)(given)
            else:
                # Not in float16, to which JAX would cast the bound, with a warning.
                wide = given.astype(compute_dtype(given))
                given = formulas.tame(ops, wide, self._rows).astype(dtype)
        if probs is not None:
            log = formulas.log_probs if self._rows else formulas.logit
            given = log(ops, given.astype(compute_dtype(given))).astype(dtype)
        event = max(given.ndim - self._rows - self._square, 0)
        batch_shape = given.shape[:event]
        if temperature is not None:
            self.temperature = self._checked_temperature(heat, given, validate)
            batch_shape = self._joint_shape(self.temperature.shape, batch_shape)
            # Of the full shape, so that vmap can map over all leaves of a distribution.
            self.temperature = jnp.broadcast_to(self.temperature, batch_shape)
        event_shape = given.shape[event:]
        self.logits = jnp.broadcast_to(given, batch_shape + event_shape)
        super().__init__(batch_shape, event_shape, validate_args=False)
        self._validate_args = validate
        machinery.tell_funsor(LogitsDistribution)  # here, since funsor may be loaded at any time

    def _theirs(self) -> Any:
        """NumPyro's own distribution in place of this one, for funsor; else an error."""
        raise _errors.no_funsor(type(self).__name__, "numpyro")

    def _checked_temperature(self, heat: Array | float, like: Array, validate: bool) -> Array:
        with at_once(heat):
            temperature = jnp.asarray(heat, compute_dtype(like))
            if not validate or not known(temperature):
                return cast(Array, formulas.warm(ops, temperature))
            low, high = formulas.COLDEST, formulas.HOTTEST
            if not bool(((temperature >= low) & (temperature <= high)).all()):
                raise _errors.bad_temperature(type(self).__name__, heat)
        return temperature

    def _check_logits(self, logits: Array) -> None:
        top = logits.max(-1) if self._rows else logits
        if not holds((abs(top) if self._rows else top) < formulas.HUGE):
            raise _errors.bad_logits(type(self).__name__, logits, self._rows)

    def _check_probs(self, probs: Array) -> None:
        if self._rows:
            total = probs.sum(-1, dtype=compute_dtype(probs))
            fine = (probs.min(-1) >= 0) & (total > 0) & (total < jnp.inf)
        else:
            fine = (probs >= 0) & (probs <= 1)
        if not holds(fine):
            raise _errors.bad_probs(type(self).__name__, probs, self._rows)

    def _joint_shape(
        self, temperature: tuple[int, ...], batch_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        try:
            return jnp.broadcast_shapes(temperature, batch_shape)
        except ValueError as error:
            name = type(self).__name__
            raise _errors.bad_temperature_shape(name, temperature, batch_shape) from error

    # Read off the parameters, so that they are right inside vmap over a distribution, too.

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of independent, differently parameterised events."""
        return jnp.shape(self.logits)[: jnp.ndim(self.logits) - self._rows - self._square]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """``(K,)`` for values over categories, ``()`` for binary ones, ``(N, N)`` for matrices."""
        return jnp.shape(self.logits)[jnp.ndim(self.logits) - self._rows - self._square :]

    @classmethod
    def infer_shapes(cls, *args: Any, **kwargs: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The batch and event shapes of a distribution made from arguments of given shapes.

        Args:
            args: Shapes of the arguments, in the order of the signature.
            kwargs: Shapes of arguments by name. Arguments that are not arrays need none.
        """
        return machinery.infer_shapes(cls, cls._rows + cls._square, args, kwargs)

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """Logits, temperature and estimator are the leaves."""
        static = [getattr(self, name) for name in self._static]
        return (self.logits, self.temperature, self.estimator), (self._validate_args, *static)

    @classmethod
    def tree_unflatten(cls, aux_data: Any, params: tuple[Any, ...]) -> Self:
        """The law with the given leaves, unchecked."""
        new = cls.__new__(cls)
        new.logits, new.temperature, new.estimator = params
        new._validate_args, *static = aux_data
        for name, value in zip(cls._static, static, strict=True):
            setattr(new, name, value)
        return new

    @property
    def probs(self) -> Array:
        """The probabilities, normalised."""
        if not self._rows:
            return jax.nn.sigmoid(self.logits)
        logits = self.logits.astype(compute_dtype(self.logits))
        return formulas.softmax(ops, logits).astype(self.logits.dtype)

    def expand(self, batch_shape: Sequence[int]) -> Self:
        """The same law with its parameters broadcast to a batch shape."""
        batch_shape = tuple(batch_shape)
        (logits, temperature, estimator), aux = self.tree_flatten()
        try:
            logits = jnp.broadcast_to(logits, batch_shape + self.event_shape)
        except ValueError as error:
            name = type(self).__name__
            raise _errors.cannot_expand(name, self.batch_shape, batch_shape) from error
        if temperature is not None:
            temperature = jnp.broadcast_to(temperature, batch_shape)
        estimator = renewed(estimator, lambda t: jnp.broadcast_to(t, batch_shape))
        return self.tree_unflatten(aux, (logits, temperature, estimator))

    def mask(self, mask: Any) -> _Masked:
        """The same law, with a density that counts only where the mask is true."""
        return _Masked(self, mask)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Distribution:
        """The law with its rightmost batch dimensions as event dimensions (default: all)."""
        return to_event(self, reinterpreted_batch_ndims)

    def __repr__(self) -> str:
        given = {"temperature": self.temperature, "estimator": self.estimator}
        words = [f", {name} {shown(x)}" for name, x in given.items() if x is not None]
        return super().__repr__()[:-1] + "".join(words) + ">"

    def _twin(self, cls: Any) -> Any:
        """The discrete law of a class with the same logits, which are checked already."""
        static = [getattr(self, name) for name in cls._static]
        return cls.tree_unflatten((self._validate_args, *static), (self.logits, None, None))

    def _parameters(self) -> tuple[Array, Array]:
        """Logits and temperature in the dtype to compute in, which is that of densities."""
        return self.logits.astype(self.temperature.dtype), self.temperature

    def _dtype(self) -> Any:
        """The dtype of values: of the arrays, not their dtypes, since a number's gives way."""
        return self.logits.dtype

    def _as_value(self, x: Array) -> Array:
        """x in the dtype of values, kept finite where it is: float16 ends at 65,504."""
        dtype = self._dtype()
        if dtype.itemsize < x.dtype.itemsize:
            top = float(jnp.finfo(dtype).max)
            x = jnp.where(jnp.abs(x) < jnp.inf, jnp.clip(x, -top, top), x)
        return x.astype(dtype)

    def _noise(self, key: Any, sample_shape: Sequence[int], like: Array) -> Array:
        draw = gumbel if self._rows else logistic
        return draw(key, tuple(sample_shape) + self.batch_shape + self.event_shape, like.dtype)

    def rsample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw with a gradient; an error where the distribution has none. Args as of sample."""
        if not self.has_rsample:
            raise _errors.missing(type(self).__name__, "rsample")
        return self.sample(key, sample_shape)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw, with a gradient where the law has one. Args, Returns: sample_shape before all."""
        return self.sample_with_intermediates(key, sample_shape)[0]

    def _check_value(self, value: Any) -> Array:
        """The value as a floating array, if its shape fits."""
        value = real(value, f"{type(self).__name__}.log_prob", "a value")
        if isinstance(value, float) or not jnp.issubdtype(value.dtype, jnp.floating):
            value = jnp.asarray(value, compute_dtype(self.logits))
        expected = self.batch_shape + self.event_shape
        try:
            lax.broadcast_shapes(value.shape, expected)
            fits = value.shape[value.ndim - len(self.event_shape) :] == self.event_shape
        except ValueError:
            fits = False
        if not fits:
            raise _errors.bad_shape(type(self).__name__, value.shape, expected)
        return value

    def _no_density(self, value: Array, error: Exception) -> Array:
        """Raise the error; in render_model and the like, a number made from all it depends on."""
        if not machinery.inspecting("numpyro"):
            raise error
        event = tuple(range(-self.event_dim, 0))
        total = value.sum(event) + self.logits.sum(event)
        return total if self.temperature is None else total + self.temperature

    def _refuse(self, value: Array, fine: Any, support: str, remedy: str) -> None:
        if not holds(fine):
            raise _errors.off_support(type(self).__name__, value, support, remedy)


@vmap_over.register(LogitsDistribution)
def _vmap_over(d: LogitsDistribution, **axes: int | None) -> LogitsDistribution:
    """The axes of all leaves: logits, temperature and estimator share one batch shape."""
    event_dim = d._rows + d._square
    logits = axes.get("logits", axes.get("probs"))
    batch = axes.get("temperature", axes.get("estimator"))
    if logits is not None:  # a negative axis counts from the end, where the logits have the event
        batch = logits + event_dim * (logits < 0)
    elif batch is not None:
        logits = batch - event_dim * (batch < 0)
    others = [None if x is None else batch for x in (d.temperature, d.estimator)]
    return d.tree_unflatten(d.tree_flatten()[1], (logits, *others))


class RelaxedDistribution(LogitsDistribution):
    """A law with a temperature, whose draws carry a gradient."""

    reparametrized_params = ["temperature", "probs", "logits"]

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        if temperature is None:
            raise _errors.bad_temperature(type(self).__name__, temperature)
        super().__init__(probs, logits, temperature, validate_args=validate_args)

    def _refuse_rounded(self, rounded: Any, value: Array) -> None:
        """Refuse a value that has lost its sample, where the formula says that it is rounded."""
        if self._validate_args:
            # Not in float16, to which JAX would cast the formula's bound, with a warning.
            logits = self.logits.astype(compute_dtype(self.logits))
            lost = rounded(ops, logits, value, float(jnp.finfo(value.dtype).tiny))
            if bool(lost.any()) if known(lost) else in_relaxed_elbo():
                raise _errors.rounded(type(self).__name__, seen=known(lost))


def in_relaxed_elbo() -> bool:
    """Whether an ELBO scores a latent value that a relaxed distribution draws in the guide."""
    return relaxed_site(ELBO, (RelaxedDistribution, RelaxedBernoulliLogits)) is not None
