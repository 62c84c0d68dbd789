"""The straight-through laws: a hard value forward, the relaxed gradient backward."""

from typing import Any

from jax import Array
from jax.nn import sigmoid

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas, machinery

from .._jax.carrier import attach
from .._jax.ops import ops
from .bernoulli import RelaxedBernoulli
from .one_hot import RelaxedOneHotCategorical


class _HardValue:
    """The moments of the value, which are those of the discrete law."""

    discrete: Any

    @property
    def mean(self) -> Array:
        """The mean of the hard value, that is the probabilities."""
        return self.discrete.mean

    @property
    def variance(self) -> Array:
        """The variance of the hard value, p (1 - p) for each entry."""
        return self.discrete.variance

    @property
    def mode(self) -> Array:
        """The most probable hard value; of two equally probable numbers 0."""
        return self.discrete.mode


class RelaxedOneHotCategoricalStraightThrough(_HardValue, RelaxedOneHotCategorical):
    r"""A one-hot value forward, the relaxed gradient backward.

    The value is the one-hot :math:`\arg\max_k x_k` of a draw x of
    :class:`RelaxedOneHotCategorical`, its gradient that of x, and ``log_prob`` the density of x,
    which the value keeps behind it (while the same object lives). A copy of the value has lost x,
    and is refused: see the page on lost samples.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``. Exactly one of probs and logits.
        validate_args: Whether to check arguments; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range, or a value has lost its relaxed sample.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.2.

    Example:
        >>> from jax import numpy as jnp
        >>> from jax import random
        >>> d = RelaxedOneHotCategoricalStraightThrough(0.5, logits=jnp.zeros(3))
        >>> z = d.sample(random.key(0))
        >>> sorted(z.tolist())
        [0.0, 0.0, 1.0]
        >>> bool(jnp.isfinite(d.log_prob(z)))
        True
    """

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw one-hot values with the relaxed gradient.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            One-hot values of shape ``sample_shape + batch_shape + (K,)``.
            And the intermediates that its density uses.
        """
        log_value, value = self._draw(key, sample_shape, hard=True)
        return attach(value.astype(self._dtype()), log_value, "log_simplex"), [log_value]

    def _log_of(self, value: Array) -> Array:
        if machinery.inspecting("numpyro"):
            return super()._log_of(value)
        raise _errors.lost(type(self).__name__)


class RelaxedBernoulliStraightThrough(_HardValue, RelaxedBernoulli):
    r"""A value of 0 or 1 forward, the relaxed gradient backward.

    The value is a draw x of :class:`RelaxedBernoulli` rounded, its gradient that of x, and
    ``log_prob`` the density of x, which the value keeps behind it (while the same object lives). A
    copy of the value has lost x, and is refused: see the page on lost samples.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        validate_args: Whether to check arguments; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range, or a value has lost its relaxed sample.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.2.

    Example:
        >>> from jax import numpy as jnp
        >>> from jax import random
        >>> d = RelaxedBernoulliStraightThrough(0.5, logits=jnp.zeros(4))
        >>> set(d.sample(random.key(0)).tolist()) <= {0.0, 1.0}
        True
    """

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw values of 0 and 1 with the relaxed gradient.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Values of 0 and 1, of shape ``sample_shape + batch_shape``.
            And the intermediates that its density uses.
        """
        logit = self._logit_value(key, sample_shape)
        hard = (logit > 0).astype(logit.dtype)
        value = formulas.straight_through(ops, hard, sigmoid(logit)).astype(self._dtype())
        return attach(value, logit, "logit"), [logit]

    def _logit_of(self, value: Array) -> Array:
        if machinery.inspecting("numpyro"):
            return super()._logit_of(value)
        raise _errors.lost(type(self).__name__)

    def cdf(self, value: Any) -> Array:
        """An error that names the laws that have one."""
        raise _errors.no_cdf(type(self).__name__)

    def icdf(self, q: Any) -> Array:
        """An error that names the laws that have one."""
        raise _errors.no_cdf(type(self).__name__)
