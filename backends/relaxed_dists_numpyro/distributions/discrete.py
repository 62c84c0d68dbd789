"""The discrete distributions with a pathwise estimator, and their KL divergences."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax, random
from numpyro.distributions import BernoulliLogits, constraints
from numpyro.infer.elbo import ELBO
from numpyro.primitives import _PYRO_STACK

from relaxed_dists import _errors
from relaxed_dists._distributions import estimators, formulas
from relaxed_dists._distributions.elbo import relaxed_site
from relaxed_dists._distributions.estimators import Estimator, ReinMax
from relaxed_dists._infer.pairing import mixed

from .._adapter import LogitsDistribution, RelaxedDistribution
from .._jax.carrier import attach, behind, found
from .._jax.input import holds, known, real
from .._jax.noise import gumbel
from .._jax.ops import compute_dtype, ops
from .._jax.quadrature import moments
from .constraints import (
    _EstimatedBoolean,
    _EstimatedOneHot,
    _SoftBoolean,
    _SoftOneHot,
    one_hot,
    tolerance,
)


def asks_for_integers(expand: bool) -> bool:
    """Whether NumPyro's own enumeration asks, which takes the values to be 0, 1, 2 and so on.

    Its handler and kernels ask for the support with expand=False; all but that of exact_evidence.
    """
    asking = {type(handler).__name__ for handler in _PYRO_STACK}
    return "enum" in asking or not (expand or "Values" in asking)


class _Discrete(LogitsDistribution):
    _support_text = ""
    _supports: Any  # three: without an estimator, of hard values, and of soft ones
    _counts = False  # whether the values are 0, 1, 2 and so on
    estimator: Estimator | None

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        estimator: Estimator | Callable[..., Any] | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, validate_args=validate_args)
        name = type(self).__name__
        validate = self._validate_args

        def fitted(temperature: Any) -> Array:
            heat = real(temperature, name, "temperature")
            array = self._checked_temperature(heat, self.logits, validate)
            if self._joint_shape(array.shape, self.batch_shape) != self.batch_shape:
                raise _errors.bad_temperature_shape(name, array.shape, self.batch_shape)
            if validate and isinstance(estimator, ReinMax) and not holds(array >= 1):
                raise _errors.too_cold(temperature)
            # Of the batch shape, so that vmap can map over all leaves of a distribution.
            return jnp.broadcast_to(array, self.batch_shape)

        self.estimator = estimators.renewed(estimators.checked(name, estimator), fitted)

    @property
    def has_rsample(self) -> bool:
        """Whether an estimator carries a gradient through the sample."""
        return self.estimator is not None

    @property
    def has_enumerate_support(self) -> bool:
        """Whether the law can be enumerated, as it can without an estimator."""
        return self.estimator is None

    @property
    def support(self) -> Any:
        """The values; with an estimator they have no transform to unconstrained space."""
        return self._supports[0 if self.estimator is None else 1 + self.estimator.soft]

    @property
    def discrete(self) -> Any:
        """The same law without an estimator."""
        return self._twin(type(self))

    def _compute_logits(self) -> Array:
        return self.logits.astype(compute_dtype(self.logits))

    def _two(self) -> Array:
        """The logits with their categories on the last axis."""
        logits = self._compute_logits()
        return logits if self._rows else formulas.bernoulli_log_probs(ops, logits)

    def rsample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw a value that carries the estimator's gradient; without an estimator an error.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``: on the support, or soft
            ones if the estimator's are.

        Raises:
            NotImplementedError: If the distribution has no estimator.
        """
        if self.estimator is None:
            raise _errors.no_estimator(type(self).__name__)
        logits = self._compute_logits()
        noise = more = self._noise(key, sample_shape, logits)
        if self.estimator.draws:
            shape = (self.estimator.draws, *noise.shape, *(() if self._rows else (2,)))
            more = gumbel(random.fold_in(key, 1), shape, logits.dtype)
        value = estimators.value(ops, self.estimator, self._rows, logits, noise, more)
        value = value.astype(self.logits.dtype)
        return attach(value, True, "soft") if self.estimator.soft else value

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw a value, with the estimator's gradient if there is one.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``.
        """
        if self.estimator is not None:
            return self.rsample(key, sample_shape)
        logits = self._compute_logits()
        noise = self._noise(key, sample_shape, logits)
        hard = formulas.hardest(ops, logits, noise) if self._rows else logits + noise > 0
        return lax.stop_gradient(hard.astype(self.logits.dtype))

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw a value; the intermediates say that it is soft. Args as those of :meth:`sample`."""
        value = self.sample(key, sample_shape)
        return value, [] if behind(value, "soft") is None else [True]

    def _refuse_relaxed(self, value: Any) -> None:
        """Refuse the mass of a site's value in an ELBO whose guide has a density there."""
        # What is traced may be a copy, as a mask makes it. There the look is once a compilation.
        if known(value) and behind(value, "log_simplex" if self._rows else "logit") is None:
            return
        site = relaxed_site(ELBO, (RelaxedDistribution,))
        if site is not None and not site[2]:
            raise mixed(site[0], type(self).__name__, type(site[1]).__name__, "The ELBO")

    def _checked(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        self._refuse_relaxed(value)
        soft = found(value, intermediates, "soft") is not None
        soft = soft or self._soft
        value = self._check_value(value)
        if self._validate_args:
            fine = (value >= 0) & (value <= 1) if soft else (value == 0) | (value == 1)
            if self._rows:
                slack = tolerance(value.dtype, value.shape[-1])
                fine = fine.all(-1) & (abs(value.sum(-1) - 1) <= slack)
            self._refuse(value, fine, self._support_text, _errors.SOFT_VALUES)
        return value

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        """The log mass; of a soft value its linear extension, sum_k value_k log p_k.

        Args:
            value: Values on the support, or soft ones of the estimator, of a shape that ends with
                the event shape.
            intermediates: What :meth:`sample_with_intermediates` returned with the value.

        Returns:
            Log masses of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        value = self._checked(value, intermediates)
        logits = self._two()
        two = value if self._rows else ops.stack(value, 1 - value)
        return formulas.categorical_log_prob(ops, logits, two.astype(logits.dtype))

    def entropy(self) -> Array:
        """The exact entropy, of the batch shape."""
        return formulas.categorical_entropy(ops, self._two())

    def _check_enumerable(self, expand: bool) -> None:
        if self.estimator is not None:
            raise _errors.no_enumeration(type(self).__name__)
        if not self._counts and asks_for_integers(expand):
            raise _errors.no_integers(type(self).__name__)

    @property
    def _soft(self) -> bool:
        """Whether the values are soft: points of the simplex, or numbers from 0 to 1."""
        return self.estimator is not None and self.estimator.soft

    def _soft_moments(self) -> tuple[Array, Array]:
        estimator: Any = self.estimator
        found = moments(self._rows, self._compute_logits(), estimator.soft_temperature)
        return found[0].astype(self.logits.dtype), found[1].astype(self.logits.dtype)

    @property
    def mean(self) -> Array:
        """The probabilities; the mean of soft values, by quadrature to 1e-6 (1e-10 in float64)."""
        return self._soft_moments()[0] if self._soft else self.probs

    @property
    def variance(self) -> Array:
        """p (1 - p), for each entry; of soft values their variance, as exact as the mean."""
        return self._soft_moments()[1] if self._soft else self.probs * (1 - self.probs)


class OneHotCategorical(_Discrete):
    r"""The one-hot categorical law, whose sample carries an estimator's gradient if it has one.

    :math:`\log p(z) = \sum_k z_k \log\mathrm{softmax}(\theta)_k`. Density, entropy and
    KL are those of the discrete law, whatever the estimator; without one the law can be enumerated.

    Args:
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        estimator: None for the plain law (a prior, enumerable), or a pathwise estimator such as
            ``StraightThrough()`` or ``GumbelSoftmax(temperature, hard=True)``.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> from jax import random
        >>> from relaxed_dists.numpyro import GumbelSoftmax
        >>> import jax
        >>> def first(logits):
        ...     law = OneHotCategorical(logits=logits, estimator=GumbelSoftmax(0.5))
        ...     return law.sample(random.key(0))[0]
        >>> bool(abs(jax.grad(first)(jnp.zeros(3))).sum() > 0)
        True
    """

    _supports: Any = (one_hot, _EstimatedOneHot(), _SoftOneHot())
    _support_text = "one-hot vectors"

    def enumerate_support(self, expand: bool = True) -> Array:
        """All one-hot values, of shape ``(K,) + batch_shape + (K,)``.

        Args:
            expand: True, to expand them to the batch shape. Only NumPyro's inference asks without.

        Raises:
            NotImplementedError: If the distribution has an estimator, or expand is False or
                NumPyro's enumeration asks, which would take the values to be 0, 1, 2 and so on.
        """
        self._check_enumerable(expand)
        k = self.logits.shape[-1]
        values = jnp.eye(k, dtype=self.logits.dtype)
        values = values.reshape((k,) + (1,) * len(self.batch_shape) + (k,))
        return jnp.broadcast_to(values, (k, *self.batch_shape, k)) if expand else values

    @property
    def mode(self) -> Array:
        """The most probable value."""
        return formulas.hardest(ops, self._compute_logits()).astype(self.logits.dtype)


class Bernoulli(_Discrete):
    r"""The Bernoulli law, whose sample carries an estimator's gradient if it has one.

    :math:`\log p(z) = z \log\sigma(\theta) + (1 - z) \log\sigma(-\theta)`. Density, entropy and
    KL are those of the discrete law, whatever the estimator; without one the law can be enumerated.

    Args:
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        estimator: None for the plain law (a prior, enumerable), or a pathwise estimator such as
            ``StraightThrough()`` or ``GumbelSoftmax(temperature, hard=True)``.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> round(Bernoulli(probs=0.25).log_prob(1.0).item(), 4)
        -1.3863
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    _supports: Any = (constraints.boolean, _EstimatedBoolean(), _SoftBoolean())
    _rows = False
    _counts = True
    _support_text = "zeros and ones"

    def _theirs(self) -> Any:
        if self.estimator is not None:
            return super()._theirs()
        return BernoulliLogits(self.logits, validate_args=False)

    def enumerate_support(self, expand: bool = True) -> Array:
        """Zero and one, of shape ``(2,) + batch_shape``.

        Args:
            expand: Whether to expand them to the batch shape, or leave ones there.

        Raises:
            NotImplementedError: If the distribution has an estimator.
        """
        self._check_enumerable(expand)
        values = jnp.arange(2, dtype=self.logits.dtype)
        values = values.reshape((2,) + (1,) * len(self.batch_shape))
        return jnp.broadcast_to(values, (2, *self.batch_shape)) if expand else values

    @property
    def mode(self) -> Array:
        """The more probable value; 0 at a tie."""
        return (self.logits > 0).astype(self.logits.dtype)
