"""The straight-through laws: a hard value forward, the relaxed gradient backward."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas

from .._adapter import inspecting
from .._torch.carrier import attach
from .._torch.ops import ops
from .bernoulli import RelaxedBernoulli
from .one_hot import RelaxedOneHotCategorical


class _HardValue:
    """The moments of the value, which are those of the discrete law."""

    discrete: Any

    @property
    def mean(self) -> Tensor:
        """The mean of the hard value, that is the probabilities."""
        return self.discrete.mean

    @property
    def variance(self) -> Tensor:
        """The variance of the hard value, p (1 - p) for each entry."""
        return self.discrete.variance

    @property
    def mode(self) -> Tensor:
        """The most probable hard value; of two equally probable numbers 0."""
        return self.discrete.mode


class RelaxedOneHotCategoricalStraightThrough(_HardValue, RelaxedOneHotCategorical):
    r"""A one-hot value forward, the relaxed gradient backward.

    The value is the one-hot :math:`\arg\max_k x_k` of a draw x of
    :class:`RelaxedOneHotCategorical`, its gradient that of x, and ``log_prob`` the density of x,
    which the value keeps behind it (a Python attribute). A copy of the value has lost x, and is
    refused: see the page on lost samples. The density's gradient by the value is that by x.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``. Exactly one of probs and logits.
        validate_args: Whether to check arguments; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range, or a value has lost its relaxed sample.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.2.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> d = RelaxedOneHotCategoricalStraightThrough(0.5, logits=torch.zeros(3))
        >>> z = d.rsample()
        >>> sorted(z.tolist())
        [0.0, 0.0, 1.0]
        >>> bool(d.log_prob(z).isfinite())
        True
    """

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw one-hot values with the relaxed gradient.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            One-hot values of shape ``sample_shape + batch_shape + (K,)``.
        """
        log_value, value = self._draw(sample_shape, hard=True)
        return attach(value.to(self._dtype()), log_value, "log_simplex")

    def _log_of(self, value: Tensor) -> Tensor:
        if inspecting():
            return super()._log_of(value)
        raise _errors.lost(type(self).__name__)


class RelaxedBernoulliStraightThrough(_HardValue, RelaxedBernoulli):
    r"""A value of 0 or 1 forward, the relaxed gradient backward.

    The value is a draw x of :class:`RelaxedBernoulli` rounded, its gradient that of x, and
    ``log_prob`` the density of x, which the value keeps behind it (a Python attribute). A copy of
    the value has lost x, and is refused: see the page on lost samples. The density's gradient by
    the value is that by x.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        validate_args: Whether to check arguments; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range, or a value has lost its relaxed sample.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.2.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> d = RelaxedBernoulliStraightThrough(0.5, logits=torch.zeros(4))
        >>> set(d.rsample().tolist()) <= {0.0, 1.0}
        True
    """

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw values of 0 and 1 with the relaxed gradient.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Values of 0 and 1, of shape ``sample_shape + batch_shape``.
        """
        logit = self._logit_value(sample_shape)
        hard = (logit > 0).to(logit.dtype)
        value = formulas.straight_through(ops, hard, torch.sigmoid(logit))
        return attach(value.to(self._dtype()), logit, "logit")

    def _logit_of(self, value: Tensor) -> Tensor:
        if inspecting():
            return super()._logit_of(value)
        raise _errors.lost(type(self).__name__)

    def cdf(self, value: Tensor) -> Tensor:
        """An error that names the laws that have one."""
        raise _errors.no_cdf(type(self).__name__)

    def icdf(self, q: Tensor) -> Tensor:
        """An error that names the laws that have one."""
        raise _errors.no_cdf(type(self).__name__)
