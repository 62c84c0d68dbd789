"""The relaxed one-hot distributions: log space, simplex, straight-through."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import constraints

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas

from .._adapter import RelaxedDistribution
from .._torch.carrier import attach, behind, version
from .._torch.ops import compute_dtype, ops
from .._torch.quadrature import entropy, log_moments, moments
from .._torch.state import eager
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

    def _draw(self, sample_shape: Sequence[int], hard: bool = False) -> tuple[Tensor, Tensor]:
        """The log value and the value, not yet in the dtype of values."""
        logits, temperature = self._parameters()
        noise, plain = self._noise(sample_shape, logits), ops.plain(logits)
        draw = formulas.concrete(ops, logits, temperature, noise, hard, plain)
        if draw[0].requires_grad and eager():  # a note for _own; the compiler can't keep one
            draw[0]._drawn_from, draw[0]._drawn_plain = self._versions(), plain
        return draw

    def _versions(self) -> list[tuple[Tensor, bool, int]]:
        """The parameters as they are now: an in-place write shows."""
        return [(x, x.requires_grad, version(x)) for x in (self.logits, self.temperature)]

    def _own(self, log_value: Tensor | None) -> bool:
        """Whether a log value was drawn from these parameters, with a graph to them."""
        drawn = getattr(log_value, "_drawn_from", None)
        return drawn is not None and all(
            x is y and note == now
            for (x, *note), (y, *now) in zip(drawn, self._versions(), strict=True)
        )


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
        validate_args: Whether to check arguments and values; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix C.3.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> d = ExpRelaxedOneHotCategorical(0.5, logits=torch.zeros(3))
        >>> y = d.rsample()
        >>> y.logsumexp(-1).abs().item() < 1e-6
        True
        >>> bool(d.log_prob(y).isfinite())
        True
    """

    support = log_simplex

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with a gradient to the parameters.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Log values of shape ``sample_shape + batch_shape + (K,)``.
        """
        return self._as_value(self._draw(sample_shape)[0])

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density, with respect to the log ratios to the last category.

        Args:
            value: Log values of shape ``(..., K)`` whose exponentials sum to one.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        value = self._check_value(value)
        if self._validate_args:
            remedy = "Apply log_softmax to unnormalised scores."
            fine = log_simplex.check(value)
            self._refuse(value, fine, "logs of points of the simplex", remedy)
        logits, temperature = self._parameters()
        return formulas.exp_concrete_log_prob(ops, logits, temperature, value.to(logits.dtype))

    def entropy(self) -> Tensor:
        """The exact entropy, of the batch shape. It does not depend on the logits."""
        return formulas.exp_concrete_entropy(ops, *self._parameters())

    @property
    def mean(self) -> Tensor:
        """The mean, of the shape of logits; -inf for a masked category.

        By quadrature, to 1e-6 times max(1, 1 / temperature) (1e-10 in float64).
        """
        return log_moments(*self._parameters())[0].to(self._dtype())

    @property
    def variance(self) -> Tensor:
        """Each entry's variance, of the shape of logits; 0 for a masked category.

        By quadrature, to 1e-6 times max(1, 1 / temperature^2) (1e-10 in float64), and to 3e-3 of
        its size (1e-6) at high temperatures.
        """
        return log_moments(*self._parameters())[1].to(self._dtype())

    @property
    def mode(self) -> Tensor:
        """The log values of the highest density, log_softmax(logits / temperature)."""
        logits, temperature = self._parameters()
        return ops.log_softmax(logits / temperature[..., None]).to(self._dtype())


class RelaxedOneHotCategorical(_RelaxedOneHot):
    r"""The Concrete or Gumbel-Softmax distribution on the simplex.

    With :math:`G_k` standard Gumbel, :math:`x = \mathrm{softmax}((\theta + G) / \tau)` and

    .. math:: \log q(x) = \log\Gamma(K) + (K-1) \log\tau
        + \sum_k \log\mathrm{softmax}(\theta - \tau \log x)_k - \sum_k \log x_k.

    A masked category's entry is 0, and the law is that of the categories left: of a single one a
    point mass, whose log_prob is 0 at the point and -inf elsewhere.

    A draw keeps its log behind it (a Python attribute), so that its density is exact where
    small entries underflow. A copy with such entries is refused, since its density is not known:
    see the page on lost samples. Other points are scored as they are. The
    density's gradient by a draw is that by its entries, and the largest number where it would
    overflow.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3.1; Jang, Gu, Poole,
        *Categorical Reparameterization with Gumbel-Softmax* (2017), appendix B.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> d = RelaxedOneHotCategorical(torch.tensor([0.1, 1.0]), probs=torch.ones(2, 3) / 3)
        >>> d.rsample().shape
        torch.Size([2, 3])
    """

    support = constraints.simplex

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with a gradient to the parameters.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Points of the simplex, of shape ``sample_shape + batch_shape + (K,)``.
        """
        log_value, value = self._draw(sample_shape)
        return attach(value.to(self._dtype()), log_value, "log_simplex")

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density on the simplex, of the relaxed sample behind the value if it has one.

        Args:
            value: Points of the simplex, of shape ``(..., K)``.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        log_value = behind(value, "log_simplex")
        value = self._check_value(value)
        own = eager() and self._own(log_value)
        plain = log_value._drawn_plain if own else None
        link = None if log_value is None else value
        if log_value is None:
            log_value = self._log_of(value)
            self._refuse_rounded(formulas.underflows, value)
        logits, temperature = self._parameters()
        y = log_value.to(logits.dtype)
        return formulas.concrete_log_prob(ops, logits, temperature, y, own, plain, link)

    def _log_of(self, value: Tensor) -> Tensor:
        if self._validate_args:
            slack = tolerance(value.dtype, value.shape[-1])
            fine = (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() <= slack)
            self._refuse(value, fine, "points of the simplex", "Apply softmax to scores.")
        tiny = torch.finfo(value.dtype).tiny
        logs = formulas.log_of(ops, self.logits, value.to(compute_dtype(value)), tiny)
        return cast(Tensor, logs)

    @property
    def mean(self) -> Tensor:
        """The mean, of the shape of logits, by quadrature to 1e-6 (1e-10 in float64)."""
        return moments(self._rows, *self._parameters())[0].to(self._dtype())

    @property
    def variance(self) -> Tensor:
        """Each entry's variance, of the shape of logits, by quadrature as exact as the mean's."""
        return moments(self._rows, *self._parameters())[1].to(self._dtype())

    @property
    def mode(self) -> Tensor:
        """An error that says why there is none."""
        raise _errors.no_mode(type(self).__name__)

    def entropy(self) -> Tensor:
        """The entropy on the simplex, of the batch shape: by quadrature, to 1e-6 of its size."""
        return entropy(self._rows, *self._parameters())
