"""The relaxed Bernoulli distributions: logit space, (0, 1), straight-through."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import constraints

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas

from .._adapter import RelaxedDistribution
from .._torch.carrier import attach, behind
from .._torch.ops import compute_dtype, ops
from .._torch.quadrature import entropy, moments
from .._torch.state import holds
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

    def _logit_value(self, sample_shape: Sequence[int]) -> Tensor:
        logits, temperature = self._parameters()
        noise = self._noise(sample_shape, logits)
        return formulas.logit_concrete(ops, logits, temperature, noise)

    def _cdf(self, logit_value: Tensor) -> Tensor:
        logits, temperature = self._parameters()
        logit_value = logit_value.to(logits.dtype)
        return formulas.logit_concrete_cdf(ops, logits, temperature, logit_value).to(self._dtype())

    def _icdf(self, q: Any) -> Tensor:
        q = self._check_value(q)
        if self._validate_args and not holds((q >= 0) & (q <= 1)):
            raise _errors.bad_probability(type(self).__name__, q)
        logits, temperature = self._parameters()
        q = q.to(logits.dtype)
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
        validate_args: Whether to check arguments and values; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> d = LogitRelaxedBernoulli(1.0, logits=torch.tensor(0.0))
        >>> round(d.log_prob(torch.tensor(0.0)).exp().item(), 4)  # the logistic density
        0.25
    """

    support = constraints.real

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with a gradient to the parameters.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Logits of shape ``sample_shape + batch_shape``.
        """
        return self._as_value(self._logit_value(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density.

        Args:
            value: Real numbers of a shape that broadcasts with the batch shape.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        value = self._check_value(value)
        if self._validate_args:
            fine = ~torch.isnan(value)
            self._refuse(value, fine, "real numbers", "Look for an overflow.")
        logits, temperature = self._parameters()
        return formulas.logit_concrete_log_prob(ops, logits, temperature, value.to(logits.dtype))

    def entropy(self) -> Tensor:
        """The exact entropy, 2 - log temperature, of the batch shape."""
        return formulas.logit_concrete_entropy(ops, *self._parameters())

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of at most the value, sigmoid(temperature * value - logits).

        Args:
            value: Real numbers of a shape that broadcasts with the batch shape.

        Returns:
            Probabilities of shape ``sample_shape + batch_shape``.
        """
        return self._cdf(self._check_value(value))

    def icdf(self, q: Tensor) -> Tensor:
        """The quantile of a probability, (logits + log q - log(1 - q)) / temperature.

        Args:
            q: Probabilities from 0 to 1, of a shape that broadcasts with the batch shape.

        Returns:
            Logits of shape ``sample_shape + batch_shape``.

        Raises:
            ValueError: If q is not a probability.
        """
        return self._icdf(q).to(self._dtype())

    @property
    def mean(self) -> Tensor:
        """logits / temperature, of the batch shape."""
        logits, temperature = self._parameters()
        return (logits / temperature).to(self._dtype())

    @property
    def variance(self) -> Tensor:
        """pi^2 / (3 temperature^2), of the batch shape; 0 for a point mass."""
        return formulas.logit_concrete_variance(ops, *self._parameters()).to(self._dtype())

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.mean


class RelaxedBernoulli(_RelaxedBinary):
    r"""The binary Concrete distribution on (0, 1).

    With L standard logistic, :math:`x = \mathrm{sigmoid}((\theta + L) / \tau)`; its density is that
    of :class:`LogitRelaxedBernoulli` at :math:`\log x - \log(1 - x)`, divided by :math:`x (1 - x)`.
    Probs of exactly 0 or 1 (an infinite logit) are a point mass: log_prob 0 there, -inf elsewhere.

    A draw keeps its logit behind it (a Python attribute), so that its density is exact
    where it rounds to 0 or 1. A copy of such a number is refused, since the density is not known:
    see the page on lost samples. Other numbers are scored as they are. The
    density's gradient by a draw is that by its number, bounded by the largest number where it
    would overflow.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> d = RelaxedBernoulli(1.0, probs=torch.tensor(0.5))  # the uniform law
        >>> d.log_prob(torch.tensor(0.3)).abs().item() < 1e-6
        True
    """

    support = constraints.unit_interval

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with a gradient to the parameters.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Numbers in [0, 1] of shape ``sample_shape + batch_shape``.
        """
        return self._at(self._logit_value(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density on (0, 1), of the relaxed sample behind the value if it has one.

        Args:
            value: Numbers in [0, 1], of a shape that broadcasts with the batch shape.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        logit = behind(value, "logit")
        value = self._check_value(value)
        link = None if logit is None else value
        if logit is None:
            logit = self._logit_of(value)
            self._refuse_rounded(formulas.at_an_end, value)
        logits, temperature = self._parameters()
        y = logit.to(logits.dtype)
        return formulas.binary_concrete_log_prob(ops, logits, temperature, y, link)

    def _within(self, value: Tensor) -> Tensor:
        if self._validate_args:
            fine = (value >= 0) & (value <= 1)
            self._refuse(value, fine, "numbers from 0 to 1", "Apply sigmoid to logits.")
        return value

    def _logit_of(self, value: Tensor) -> Tensor:
        value = self._within(value)
        finfo = torch.finfo(value.dtype)
        exact = value.to(compute_dtype(value))
        logit = formulas.logit_of(ops, self.logits, exact, finfo.tiny, finfo.eps)
        return cast(Tensor, logit)

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of at most the value, sigmoid(temperature * logit(value) - logits).

        Args:
            value: Numbers in [0, 1], of a shape that broadcasts with the batch shape.

        Returns:
            Probabilities of shape ``sample_shape + batch_shape``.
        """
        logit = behind(value, "logit")
        if logit is None:
            value = self._within(self._check_value(value))
            logit = formulas.logit(ops, value.to(compute_dtype(value)))
        else:
            logit = ops.linked(logit, value, False)
        return self._cdf(logit)

    def icdf(self, q: Tensor) -> Tensor:
        """The quantile of a probability, sigmoid((logits + log q - log(1 - q)) / temperature).

        Args:
            q: Probabilities from 0 to 1, of a shape that broadcasts with the batch shape.

        Returns:
            Numbers in [0, 1] of shape ``sample_shape + batch_shape``, their logits behind them.

        Raises:
            ValueError: If q is not a probability.
        """
        return self._at(self._icdf(q))

    def _at(self, logit: Tensor) -> Tensor:
        """The value of a logit, which it keeps behind it."""
        # A copy, which may be written to: sigmoid's gradient needs its own result.
        return attach(torch.sigmoid(logit).to(self._dtype(), copy=True), logit, "logit")

    @property
    def mean(self) -> Tensor:
        """The mean, of the batch shape, by quadrature to 1e-6 (1e-10 in float64)."""
        return moments(self._rows, *self._parameters())[0].to(self._dtype())

    @property
    def variance(self) -> Tensor:
        """The variance, of the batch shape, by quadrature as exact as the mean's."""
        return moments(self._rows, *self._parameters())[1].to(self._dtype())

    @property
    def mode(self) -> Tensor:
        """An error that says why there is none."""
        raise _errors.no_mode(type(self).__name__)

    def entropy(self) -> Tensor:
        """The entropy on (0, 1), of the batch shape: by quadrature, to 1e-6 of its size."""
        return entropy(self._rows, *self._parameters())
