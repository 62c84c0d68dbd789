"""The base classes of this library's distributions, with the methods that NumPyro calls."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.batch_util import vmap_over
from numpyro.distributions.continuous import RelaxedBernoulliLogits
from numpyro.distributions.distribution import Distribution
from numpyro.infer.elbo import ELBO
from numpyro.primitives import _PYRO_STACK

from relaxed_dists import _errors
from relaxed_dists._distributions import machinery
from relaxed_dists._distributions.elbo import relaxed_site
from relaxed_dists._distributions.estimator_base import renewed
from relaxed_dists._ops import ArrayLike
from relaxed_dists_jax import loops, quadrature  # noqa: F401 (they register themselves with the operations)
from relaxed_dists_jax.carrier import get_relaxed
from relaxed_dists_jax.from_logits import FromLogits, Jax, checked_shape

from . import _older
from ._wrappers import _Masked, to_event

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


def asks_for_integers(expand: bool) -> bool:
    """Whether enumerate_support is called by NumPyro's enumeration, which needs integer values.

    NumPyro's handler ``enum`` and its MCMC kernels treat the values as 0, 1, 2 and so on, and pass
    expand=False. exact_evidence passes expand=False too, but its handler ``Values`` accepts any
    values.
    """
    handlers = {type(handler).__name__ for handler in _PYRO_STACK}
    return "enum" in handlers or not (expand or "Values" in handlers)


class _Framework(Jax):
    """The functions of JAX and NumPyro that FromFamily, a base class of FromLogits, calls."""

    @staticmethod
    def inspecting() -> bool:
        return machinery.inspecting("numpyro")

    @staticmethod
    def relaxed_site(ours: bool) -> tuple[str, Any, bool] | None:
        numpyro_relaxed = () if ours else (RelaxedBernoulliLogits,)
        return relaxed_site(ELBO, (RelaxedDistribution, *numpyro_relaxed))


class LogitsDistribution(FromLogits, Distribution):
    """A distribution with logits; also with a temperature, unless ``temperature`` is None."""

    arg_constraints: Any = {"probs": constraints.simplex, "logits": constraints.real_vector}
    estimator: Any = None
    if _older.DOES_NOT_VALIDATE:
        _validate_args = True
    _framework = _Framework()

    def __init__(
        self,
        temperature: ArrayLike,
        probs: ArrayLike | None = None,
        logits: ArrayLike | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        validate = self._validate_args if validate_args is None else validate_args
        FromLogits.__init__(self, temperature, probs, logits, validate)
        # Register with funsor at each construction, since the user may load funsor at any time.
        machinery.tell_funsor(LogitsDistribution)

    def _for_funsor(self) -> Any:
        """The NumPyro distribution that funsor converts instead; by default an error."""
        raise _errors.no_funsor(type(self).__name__, "numpyro")

    @classmethod
    def infer_shapes(cls, *args: Any, **kwargs: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The batch and event shapes of a distribution made from arguments of given shapes.

        Args:
            args: Shapes of the arguments, in the order of the signature.
            kwargs: Shapes of those arguments that are arrays, by name.
        """
        return machinery.infer_shapes(cls, cls._family.event_dim, args, kwargs)

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """The leaves are logits, temperature and estimator; the other fields are static."""
        leaves = self.logits, self.temperature, self.estimator
        return leaves, (self._validate_args, self._family)

    @classmethod
    def tree_unflatten(cls, aux_data: Any, params: tuple[Any, ...]) -> "Self":
        """The distribution with the given leaves, which are not checked."""
        new = cls.__new__(cls)
        new.logits, new.temperature, new.estimator = params
        new._validate_args, new._family = aux_data
        return new

    def expand(self, batch_shape: Sequence[int]) -> "Self":
        """The same distribution with its parameters broadcast to a batch shape."""
        batch_shape = checked_shape(f"{self._name}.expand", batch_shape)
        (logits, temperature, estimator), aux = self.tree_flatten()
        try:
            logits = jnp.broadcast_to(logits, batch_shape + self.event_shape)
        except ValueError as error:
            name = type(self).__name__
            raise _errors.cannot_expand(name, self.batch_shape, batch_shape) from error
        if temperature is not None:
            temperature = jnp.broadcast_to(temperature, batch_shape)
        estimator = renewed(estimator, lambda t: jnp.broadcast_to(t, batch_shape))
        new = self.tree_unflatten(aux, (logits, temperature, estimator))
        new._before_expand = self.logits if self._before_expand is None else self._before_expand
        return new

    def mask(self, mask: Any) -> _Masked:
        """The same distribution, with a log density of 0 where the mask is false."""
        return _Masked(self, mask)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Distribution:
        """The distribution with its rightmost batch dimensions as event dimensions."""
        return to_event(self, reinterpreted_batch_ndims)

    def _as_discrete(self, cls: Any, family: Any = None) -> Any:
        """A ``cls`` with the logits of this distribution's discrete counterpart."""
        logits = self._ask(self._family.discrete_logits, self._parameters())
        logits = logits.astype(self.logits.dtype)
        aux = self._validate_args, cls._family if family is None else family
        return cls.tree_unflatten(aux, (logits, None, None))

    def sample_with_intermediates(
        self, key: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw, with a gradient to the parameters if ``has_rsample`` is true.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``, and the intermediates that
            ``log_prob`` uses.
        """
        return self._draw(key, sample_shape, gradient=self.has_rsample)

    def rsample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw with a gradient to the parameters.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``.
        """
        if not self.has_rsample:
            raise _errors.missing(self._name, "rsample", self._family)
        return self.sample(key, sample_shape)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw, with a gradient if ``has_rsample``. Args and Returns are those of rsample."""
        return self.sample_with_intermediates(key, sample_shape)[0]

    def cdf(self, value: ArrayLike) -> Array:
        """The probability that a draw is at most the value.

        Args:
            value: Numbers of a shape that broadcasts with the batch shape.

        Returns:
            Probabilities of shape ``sample_shape + batch_shape``.
        """
        sample = get_relaxed(value, self._family.space) if self._family.space else None
        return cast(Array, self._cdf(value, sample))

    def enumerate_support(self, expand: bool = True) -> Array:
        """All values, of shape ``(number of values,) + batch_shape + event_shape``.

        Args:
            expand: Whether to expand the values to the batch shape; if not, its dimensions have
                size 1.

        Raises:
            NotImplementedError: If the values can't be listed. Also if they are not the numbers 0,
                1, 2 and so on, and expand is False or NumPyro's enumeration calls this method:
                NumPyro would treat the values as these numbers.
        """
        values: Array = super().enumerate_support(expand)
        if not self._family.counts and asks_for_integers(expand):
            raise self._family.no_integers(type(self).__name__)
        return values


@vmap_over.register(LogitsDistribution)
def _vmap_over(d: LogitsDistribution, **axes: int | None) -> LogitsDistribution:
    """A distribution whose leaves are the axes along which vmap maps ``d``.

    Logits, temperature and estimator share one batch shape, so one given axis determines the rest.
    """
    event_dim = d._family.event_dim
    logits = axes.get("logits", axes.get("probs"))
    batch = axes.get("temperature", axes.get("estimator"))
    if logits is not None:  # a negative axis counts from the end, where logits have event axes
        batch = logits + event_dim * (logits < 0)
    elif batch is not None:
        logits = batch - event_dim * (batch < 0)
    others = [None if x is None else batch for x in (d.temperature, d.estimator)]
    return d.tree_unflatten(d.tree_flatten()[1], (logits, *others))


class RelaxedDistribution(LogitsDistribution):
    """A distribution with a temperature, whose draws carry a gradient."""

    arg_constraints = {"temperature": constraints.positive, **LogitsDistribution.arg_constraints}
    _has_temperature = True
    reparametrized_params = ["temperature", "probs", "logits"]
