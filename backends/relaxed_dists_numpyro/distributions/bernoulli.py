"""The relaxed Bernoulli distributions: logit space, (0, 1), straight-through."""

from typing import Any, cast

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid
from numpyro.distributions import constraints

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas

from .._adapter import RelaxedDistribution
from .._jax.carrier import attach, behind, found
from .._jax.input import holds
from .._jax.ops import compute_dtype, flat, ops
from .._jax.quadrature import entropy, moments
from .discrete import Bernoulli


class _RelaxedBinary(RelaxedDistribution):
    arg_constraints = {
        "temperature": constraints.positive,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }
    _rows = False

    @property
    def discrete(self) -> Bernoulli:
        """The discrete law with the same logits."""
        return self._twin(Bernoulli)

    def _logit_value(self, key: Any, sample_shape: tuple[int, ...]) -> Array:
        logits, temperature = self._parameters()
        noise = self._noise(key, sample_shape, logits)
        return flat(formulas.logit_concrete, logits, temperature, noise)

    def _cdf(self, logit_value: Array) -> Array:
        logits, temperature = self._parameters()
        logit_value = logit_value.astype(logits.dtype)
        return formulas.logit_concrete_cdf(ops, logits, temperature, logit_value).astype(
            self._dtype()
        )

    def _icdf(self, q: Any) -> Array:
        q = self._check_value(q)
        if self._validate_args and not holds((q >= 0) & (q <= 1)):
            raise _errors.bad_probability(type(self).__name__, q)
        logits, temperature = self._parameters()
        q = q.astype(logits.dtype)
        return formulas.logit_concrete_icdf(ops, logits, temperature, q)


class LogitRelaxedBernoulli(_RelaxedBinary):
    r"""The logit of a relaxed Bernoulli sample: a logistic law, exact at every temperature.

    With L standard logistic, :math:`y = (\theta + L) / \tau`, and with :math:`d = \theta - \tau y`

    .. math:: \log q(y) = \log\tau + d - 2 \log(1 + e^d).

    An infinite logit (probs of exactly 0 or 1) is a point mass there: log_prob 0, -inf elsewhere.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> d = LogitRelaxedBernoulli(1.0, logits=jnp.array(0.0))
        >>> round(jnp.exp(d.log_prob(0.0)).item(), 4)  # the logistic density
        0.25
    """

    support = constraints.real

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw with a gradient to the parameters.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Logits of shape ``sample_shape + batch_shape``.
            And the intermediates that its density uses.
        """
        return self._as_value(self._logit_value(key, sample_shape)), []

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        """The log density.

        Args:
            value: Real numbers of a shape that broadcasts with the batch shape.
            intermediates: What :meth:`sample_with_intermediates` returned with the value.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        value = self._check_value(value)
        if self._validate_args:
            fine = ~jnp.isnan(value)
            self._refuse(value, fine, "real numbers", "Look for an overflow.")
        logits, temperature = self._parameters()
        value = value.astype(logits.dtype)
        return flat(formulas.logit_concrete_log_prob, logits, temperature, value)

    def entropy(self) -> Array:
        """The exact entropy, 2 - log temperature, of the batch shape."""
        return formulas.logit_concrete_entropy(ops, *self._parameters())

    def cdf(self, value: Any) -> Array:
        """The probability of at most the value, sigmoid(temperature * value - logits).

        Args:
            value: Real numbers of a shape that broadcasts with the batch shape.

        Returns:
            Probabilities of shape ``sample_shape + batch_shape``.
        """
        return self._cdf(self._check_value(value))

    def icdf(self, q: Any) -> Array:
        """The quantile of a probability, (logits + log q - log(1 - q)) / temperature.

        Args:
            q: Probabilities from 0 to 1, of a shape that broadcasts with the batch shape.

        Returns:
            Logits of shape ``sample_shape + batch_shape``.

        Raises:
            ValueError: If q is not a probability.
        """
        return self._icdf(q).astype(self._dtype())

    @property
    def mean(self) -> Array:
        """logits / temperature, of the batch shape."""
        logits, temperature = self._parameters()
        return (logits / temperature).astype(self._dtype())

    @property
    def variance(self) -> Array:
        """pi^2 / (3 temperature^2), of the batch shape; 0 for a point mass."""
        return formulas.logit_concrete_variance(ops, *self._parameters()).astype(self._dtype())

    @property
    def mode(self) -> Array:
        """The mean."""
        return self.mean


class RelaxedBernoulli(_RelaxedBinary):
    r"""The binary Concrete distribution on (0, 1).

    With L standard logistic, :math:`x = \mathrm{sigmoid}((\theta + L) / \tau)`; its density is that
    of :class:`LogitRelaxedBernoulli` at :math:`\log x - \log(1 - x)`, divided by :math:`x (1 - x)`.
    Probs of exactly 0 or 1 (an infinite logit) are a point mass: log_prob 0 there, -inf elsewhere.

    A draw keeps its logit behind it (while the same object lives), so that its density is exact
    where it rounds to 0 or 1. A copy of such a number is refused, since the density is not known:
    see the page on lost samples. Other numbers are scored as they are.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> d = RelaxedBernoulli(1.0, probs=jnp.array(0.5))  # the uniform law
        >>> d.log_prob(jnp.array(0.3)).item() ** 2 < 1e-12
        True
    """

    support = constraints.unit_interval

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw with a gradient to the parameters.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Numbers in [0, 1] of shape ``sample_shape + batch_shape``.
            And the intermediates that its density uses.
        """
        logit = self._logit_value(key, sample_shape)
        value = sigmoid(logit).astype(self._dtype())
        return attach(value, logit, "logit"), [logit]

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        """The log density on (0, 1), of the relaxed sample behind the value if it has one.

        Args:
            value: Numbers in [0, 1], of a shape that broadcasts with the batch shape.
            intermediates: What :meth:`sample_with_intermediates` returned with the value.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        logit = found(value, intermediates, "logit")
        value = self._check_value(value)
        if logit is None:
            logit = self._logit_of(value)
            self._refuse_rounded(formulas.at_an_end, value)
        logits, temperature = self._parameters()
        logit = logit.astype(logits.dtype)
        return flat(formulas.binary_concrete_log_prob, logits, temperature, logit)

    def _within(self, value: Array) -> Array:
        if self._validate_args:
            fine = (value >= 0) & (value <= 1)
            self._refuse(value, fine, "numbers from 0 to 1", "Apply sigmoid to logits.")
        return value

    def _logit_of(self, value: Array) -> Array:
        value = self._within(value)
        finfo = jnp.finfo(value.dtype)
        tiny, eps = float(finfo.tiny), float(finfo.eps)
        exact = value.astype(compute_dtype(value))
        return cast(Array, formulas.logit_of(ops, self._parameters()[0], exact, tiny, eps))

    def cdf(self, value: Any) -> Array:
        """The probability of at most the value, sigmoid(temperature * logit(value) - logits).

        Args:
            value: Numbers in [0, 1], of a shape that broadcasts with the batch shape.

        Returns:
            Probabilities of shape ``sample_shape + batch_shape``.
        """
        logit = behind(value, "logit")
        if logit is None:
            value = self._within(self._check_value(value))
            logit = formulas.logit(ops, value.astype(compute_dtype(value)))
        return self._cdf(logit)

    def icdf(self, q: Any) -> Array:
        """The quantile of a probability, sigmoid((logits + log q - log(1 - q)) / temperature).

        Args:
            q: Probabilities from 0 to 1, of a shape that broadcasts with the batch shape.

        Returns:
            Numbers in [0, 1] of shape ``sample_shape + batch_shape``, their logits behind them.

        Raises:
            ValueError: If q is not a probability.
        """
        logit = self._icdf(q)
        return attach(sigmoid(logit).astype(self._dtype()), logit, "logit")

    @property
    def mean(self) -> Array:
        """The mean, of the batch shape, by quadrature to 1e-6 (1e-10 in float64)."""
        return moments(self._rows, *self._parameters())[0].astype(self._dtype())

    @property
    def variance(self) -> Array:
        """The variance, of the batch shape, by quadrature as exact as the mean's."""
        return moments(self._rows, *self._parameters())[1].astype(self._dtype())

    @property
    def mode(self) -> Array:
        """An error that says why there is none."""
        raise _errors.no_mode(type(self).__name__)

    def entropy(self) -> Array:
        """The entropy on (0, 1), of the batch shape: by quadrature, to 1e-6 of its size."""
        return entropy(self._rows, *self._parameters())
