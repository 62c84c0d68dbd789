"""The relaxed one-hot distributions: log space, simplex, straight-through."""

from typing import Any, cast

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas

from .._adapter import RelaxedDistribution
from .._jax.carrier import attach, behind, found
from .._jax.ops import compute_dtype, ops
from .._jax.quadrature import entropy, log_moments, moments
from .constraints import log_simplex, tolerance
from .discrete import OneHotCategorical


class _RelaxedOneHot(RelaxedDistribution):
    arg_constraints = {
        "temperature": constraints.positive,
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }

    @property
    def discrete(self) -> OneHotCategorical:
        """The discrete law with the same logits."""
        return self._twin(OneHotCategorical)

    def _draw(
        self, key: Any, sample_shape: tuple[int, ...], hard: bool = False
    ) -> tuple[Array, Array]:
        """The log value and the value, not yet in the dtype of values."""
        logits, temperature = self._parameters()
        noise = self._noise(key, sample_shape, logits)
        log_value, value = formulas.concrete(ops, logits, temperature, noise, hard)
        return attach(log_value, (self.logits, self.temperature), "parameters"), value

    def _own(self, log_value: Array | None) -> bool:
        """Whether a log value was drawn from these very arrays or tracers."""
        drawn = behind(log_value, "parameters") or (None, None)
        return drawn[0] is self.logits and drawn[1] is self.temperature


class ExpRelaxedOneHotCategorical(_RelaxedOneHot):
    r"""The log of a relaxed one-hot sample: the canonical node, exact at every temperature.

    With :math:`G_k` standard Gumbel, :math:`y = \mathrm{log\,softmax}((\theta + G) / \tau)` and

    .. math:: \log q(y) = \log\Gamma(K) + (K-1) \log\tau
        + \sum_k \log\mathrm{softmax}(\theta - \tau y)_k.

    A masked category's entry is -inf, and the law is that of the categories left: of a single one a
    point mass, whose log_prob is 0 at the point and -inf elsewhere.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix C.3.

    Example:
        >>> from jax import random
        >>> d = ExpRelaxedOneHotCategorical(0.5, logits=jnp.zeros(3))
        >>> y = d.rsample(random.key(0))
        >>> bool(abs(jnp.exp(y).sum() - 1) < 1e-5)
        True
        >>> bool(jnp.isfinite(d.log_prob(y)))
        True
    """

    support = log_simplex

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw with a gradient to the parameters.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Log values of shape ``sample_shape + batch_shape + (K,)``.
            And the intermediates that its density uses.
        """
        return self._as_value(self._draw(key, sample_shape)[0]), []

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        """The log density, with respect to the log ratios to the last category.

        Args:
            value: Log values of shape ``(..., K)`` whose exponentials sum to one.
            intermediates: What :meth:`sample_with_intermediates` returned with the value.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        value = self._check_value(value)
        if self._validate_args:
            remedy = "Apply log_softmax to unnormalised scores."
            fine = log_simplex(value)
            self._refuse(value, fine, "logs of points of the simplex", remedy)
        logits, temperature = self._parameters()
        return formulas.exp_concrete_log_prob(ops, logits, temperature, value.astype(logits.dtype))

    def entropy(self) -> Array:
        """The exact entropy, of the batch shape. It does not depend on the logits."""
        return formulas.exp_concrete_entropy(ops, *self._parameters())

    @property
    def mean(self) -> Array:
        """The mean, of the shape of logits; -inf for a masked category.

        By quadrature, to 1e-6 times max(1, 1 / temperature) (1e-10 in float64).
        """
        return log_moments(*self._parameters())[0].astype(self._dtype())

    @property
    def variance(self) -> Array:
        """Each entry's variance, of the shape of logits; 0 for a masked category.

        By quadrature, to 1e-6 times max(1, 1 / temperature^2) (1e-10 in float64), and to 3e-3 of
        its size (1e-6) at high temperatures.
        """
        return log_moments(*self._parameters())[1].astype(self._dtype())

    @property
    def mode(self) -> Array:
        """The log values of the highest density, log_softmax(logits / temperature)."""
        logits, temperature = self._parameters()
        return ops.log_softmax(logits / temperature[..., None]).astype(self._dtype())


class RelaxedOneHotCategorical(_RelaxedOneHot):
    r"""The Concrete or Gumbel-Softmax distribution on the simplex.

    With :math:`G_k` standard Gumbel, :math:`x = \mathrm{softmax}((\theta + G) / \tau)` and

    .. math:: \log q(x) = \log\Gamma(K) + (K-1) \log\tau
        + \sum_k \log\mathrm{softmax}(\theta - \tau \log x)_k - \sum_k \log x_k.

    A masked category's entry is 0, and the law is that of the categories left: of a single one a
    point mass, whose log_prob is 0 at the point and -inf elsewhere.

    A draw keeps its log behind it (while the same object lives), so that its density is exact where
    small entries underflow. A copy with such entries is refused, since its density is not known:
    see the page on lost samples. Other points are scored as they are.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3.1; Jang, Gu, Poole,
        *Categorical Reparameterization with Gumbel-Softmax* (2017), appendix B.

    Example:
        >>> from jax import random
        >>> d = RelaxedOneHotCategorical(jnp.array([0.1, 1.0]), probs=jnp.ones((2, 3)) / 3)
        >>> d.rsample(random.key(0)).shape
        (2, 3)
    """

    support = constraints.simplex

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw with a gradient to the parameters.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Points of the simplex, of shape ``sample_shape + batch_shape + (K,)``.
            And the intermediates that its density uses.
        """
        log_value, value = self._draw(key, sample_shape)
        return attach(value.astype(self._dtype()), log_value, "log_simplex"), [log_value]

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        """The log density on the simplex, of the relaxed sample behind the value if it has one.

        Args:
            value: Points of the simplex, of shape ``(..., K)``.
            intermediates: What :meth:`sample_with_intermediates` returned with the value.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        log_value = found(value, intermediates, "log_simplex")
        value = self._check_value(value)
        own = self._own(log_value)
        if log_value is None:
            log_value = self._log_of(value)
            self._refuse_rounded(formulas.underflows, value)
        logits, temperature = self._parameters()
        y = log_value.astype(logits.dtype)
        return formulas.concrete_log_prob(ops, logits, temperature, y, own)

    def _log_of(self, value: Array) -> Array:
        if self._validate_args:
            slack = tolerance(value.dtype, value.shape[-1])
            fine = (value >= 0).all(-1) & (abs(value.sum(-1) - 1) <= slack)
            self._refuse(value, fine, "points of the simplex", "Apply softmax to scores.")
        tiny = float(jnp.finfo(value.dtype).tiny)
        exact = value.astype(compute_dtype(value))
        return cast(Array, formulas.log_of(ops, self._parameters()[0], exact, tiny))

    @property
    def mean(self) -> Array:
        """The mean, of the shape of logits, by quadrature to 1e-6 (1e-10 in float64)."""
        return moments(self._rows, *self._parameters())[0].astype(self._dtype())

    @property
    def variance(self) -> Array:
        """Each entry's variance, of the shape of logits, by quadrature as exact as the mean's."""
        return moments(self._rows, *self._parameters())[1].astype(self._dtype())

    @property
    def mode(self) -> Array:
        """An error that says why there is none."""
        raise _errors.no_mode(type(self).__name__)

    def entropy(self) -> Array:
        """The entropy on the simplex, of the batch shape: by quadrature, to 1e-6 of its size."""
        return entropy(self._rows, *self._parameters())
