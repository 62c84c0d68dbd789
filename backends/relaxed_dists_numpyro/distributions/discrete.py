"""The discrete distributions, with or without a pathwise estimator."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import BernoulliLogits, constraints

from relaxed_dists import _errors
from relaxed_dists._distributions import discrete, estimator_base
from relaxed_dists._distributions.estimator_base import Estimator
from relaxed_dists._ops import ArrayLike
from relaxed_dists_jax.carrier import find_relaxed, get_relaxed
from relaxed_dists_jax.from_logits import EstimatedFromLogits
from relaxed_dists_jax.input import known

from .._adapter import LogitsDistribution
from .constraints import Values


class _Discrete(EstimatedFromLogits, LogitsDistribution):
    _values = Values
    estimator: Estimator | None

    def __init__(
        self,
        probs: ArrayLike | None = None,
        logits: ArrayLike | None = None,
        estimator: Estimator | Callable[..., Any] | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        LogitsDistribution.__init__(self, None, probs, logits, validate_args=validate_args)
        self._fit(estimator)
        # The estimator's temperatures get the batch shape, so that vmap maps over them as over the
        # logits.
        whole = functools.partial(jnp.broadcast_to, shape=self.batch_shape)
        self.estimator = estimator_base.renewed(self.estimator, whole)

    @property
    def has_rsample(self) -> bool:
        """Whether an estimator carries a gradient through the sample."""
        return self.estimator is not None

    def rsample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw a value that carries the estimator's gradient.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``: on the support, or soft
            values if the estimator makes soft values.

        Raises:
            NotImplementedError: If the distribution has no estimator.
        """
        if self.estimator is None:
            raise _errors.no_estimator(type(self).__name__)
        return self.sample(key, sample_shape)

    def log_prob(self, value: ArrayLike, intermediates: list[Any] | None = None) -> Array:
        """The log probability; for a soft value, the linear extension sum_k value_k log p_k.

        Args:
            value: Values on the support, or soft values of the estimator, of a shape that ends with
                the event shape.
            intermediates: The intermediates that `sample_with_intermediates` returned with the
                value.

        Returns:
            Log probabilities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        # A value that keeps a relaxed sample may come from a guide that draws this site from a
        # relaxed distribution. An ELBO of such a guide is an error. A traced value may have lost
        # the sample, since a mask copies values. So each traced value starts the slow search for
        # the ELBO, but only once per compilation.
        space = "log_simplex" if self._family.event_dim else "logit"
        if not known(value) or get_relaxed(value, space) is not None:
            self._refuse_mixed()
        return super().log_prob(value, intermediates)

    def _is_soft(self, value: Any, intermediates: list[Any] | None) -> bool:
        own = self.estimator is not None and self.estimator.soft
        return find_relaxed(value, intermediates, "soft") is not None or own


class OneHotCategorical(_Discrete):
    r"""The one-hot categorical distribution, whose draw may carry an estimator's gradient.

    The log probability of z is ``(z * log_softmax(logits)).sum(-1)``. The log probability, the
    entropy and the KL divergence do not depend on the estimator. Without an estimator the
    distribution can be enumerated.

    Args:
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: Real numbers of shape ``(..., K)``; -inf masks a category. A constant added to all K
            changes nothing. Give either probs or logits.
        estimator: None, as for a prior or for enumeration, or a pathwise estimator such as
            ``StraightThrough()`` or ``GumbelSoftmax(temperature, hard=True)``.
        validate_args: Whether to check arguments and values; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax import random
        >>> from relaxed_dists.numpyro import GumbelSoftmax
        >>> import jax
        >>> def first(logits):
        ...     distribution = OneHotCategorical(logits=logits, estimator=GumbelSoftmax(0.5))
        ...     return distribution.sample(random.key(0))[0]
        >>> bool(abs(jax.grad(first)(jnp.zeros(3))).sum() > 0)
        True
    """

    _family = discrete.OneHot()
    _hard_support: Any = Values(_family)


class Bernoulli(_Discrete):
    r"""The Bernoulli distribution, whose draw may carry an estimator's gradient.

    The log probability of z is ``z * log_sigmoid(logits) + (1 - z) * log_sigmoid(-logits)``. The
    log probability, the entropy and the KL divergence do not depend on the estimator. Without an
    estimator the distribution can be enumerated.

    Args:
        probs: Probabilities of the value 1, of the batch shape.
        logits: Real numbers of the batch shape. Give either probs or logits.
        estimator: None, as for a prior or for enumeration, or a pathwise estimator such as
            ``StraightThrough()`` or ``GumbelSoftmax(temperature, hard=True)``.
        validate_args: Whether to check arguments and values; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> round(Bernoulli(probs=0.25).log_prob(1.0).item(), 4)
        -1.3863
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    _family = discrete.Bernoulli()
    _hard_support: Any = constraints.boolean

    def _for_funsor(self) -> Any:
        if self.estimator is not None:
            return super()._for_funsor()
        return BernoulliLogits(self.logits, validate_args=False)
