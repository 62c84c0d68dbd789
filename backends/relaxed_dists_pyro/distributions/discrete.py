"""The discrete distributions, with or without a pathwise estimator."""

from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import constraints

from relaxed_dists import _errors
from relaxed_dists._distributions import discrete, estimator_base, machinery
from relaxed_dists._distributions.estimator_base import Estimator
from relaxed_dists._ops import ArrayLike
from relaxed_dists_torch.carrier import get_relaxed
from relaxed_dists_torch.from_logits import EstimatedFromLogits
from relaxed_dists_torch.state import compiling

from .._adapter import LogitsDistribution
from .constraints import Values


class _Discrete(EstimatedFromLogits, LogitsDistribution):  # type: ignore[override]
    # The public classes below also inherit from Pyro's classes of the same names, which Pyro's
    # enumeration and funsor recognise; all methods of Pyro's classes are overridden. The attribute
    # `logits` hides Pyro's property, which has no setter, so that an instance can set `logits`.
    logits: Any = None
    _values = Values
    _pyro_class: Any
    estimator: Estimator | None

    def __init__(
        self,
        probs: ArrayLike | None = None,
        logits: ArrayLike | None = None,
        estimator: Estimator | Callable[..., Any] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        LogitsDistribution.__init__(self, None, probs, logits, validate_args)
        self._fit(estimator)
        if not compiling():
            machinery.tell("pyro.contrib.forecast.util", _tell_forecast)

    @property
    def has_rsample(self) -> bool:
        """Whether an estimator carries a gradient through the sample."""
        return self.__dict__.get("has_rsample", self.estimator is not None)

    @has_rsample.setter
    def has_rsample(self, value: bool) -> None:
        if value and self.estimator is None:
            raise _errors.no_estimator(type(self).__name__)
        self.__dict__["has_rsample"] = value

    def _for_funsor(self) -> Any:
        if self.estimator is not None:
            return super()._for_funsor()
        return self._pyro_class(logits=self.logits, validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw a value that carries the estimator's gradient.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``: on the support, or soft
            values if the estimator makes soft values.

        Raises:
            NotImplementedError: If the distribution has no estimator.
        """
        if self.estimator is None:
            raise _errors.no_estimator(type(self).__name__)
        return self._draw(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log probability; for a soft value, the linear extension sum_k value_k log p_k.

        Args:
            value: Values on the support, or soft values of the estimator, of a shape that ends with
                the event shape.

        Returns:
            Log probabilities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        # A value that keeps a relaxed sample may come from a guide that draws this site from a
        # relaxed distribution. An ELBO of such a guide is an error.
        if get_relaxed(value, "log_simplex" if self._family.event_dim else "logit") is not None:
            self._refuse_mixed()
        return super().log_prob(value)

    def _is_soft(self, value: Any) -> bool:
        own = self.estimator is not None and self.estimator.soft
        return own or get_relaxed(value, "soft") is not None


class OneHotCategorical(_Discrete, dist.OneHotCategorical):  # type: ignore[override]
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
        validate_args: Whether to check arguments and values; by default Pyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> import torch
        >>> from relaxed_dists.pyro import GumbelSoftmax
        >>> _ = torch.manual_seed(0)
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> z = OneHotCategorical(logits=logits, estimator=GumbelSoftmax(0.5)).rsample()
        >>> sorted(z.tolist())
        [0.0, 0.0, 1.0]
        >>> z[0].backward()
        >>> bool(logits.grad.abs().sum() > 0)
        True
    """

    _family = discrete.OneHot()
    _hard_support: Any = constraints.one_hot
    _pyro_class = dist.OneHotCategorical


class Bernoulli(_Discrete, dist.Bernoulli):
    r"""The Bernoulli distribution, whose draw may carry an estimator's gradient.

    The log probability of z is ``z * log_sigmoid(logits) + (1 - z) * log_sigmoid(-logits)``. The
    log probability, the entropy and the KL divergence do not depend on the estimator. Without an
    estimator the distribution can be enumerated.

    Args:
        probs: Probabilities of the value 1, of the batch shape.
        logits: Real numbers of the batch shape. Give either probs or logits.
        estimator: None, as for a prior or for enumeration, or a pathwise estimator such as
            ``StraightThrough()`` or ``GumbelSoftmax(temperature, hard=True)``.
        validate_args: Whether to check arguments and values; by default Pyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> import torch
        >>> round(Bernoulli(probs=torch.tensor(0.25)).log_prob(torch.tensor(1.0)).exp().item(), 4)
        0.25
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    _family = discrete.Bernoulli()
    _hard_support: Any = constraints.boolean
    _pyro_class = dist.Bernoulli


def _tell_forecast(util: Any) -> None:
    """Register Bernoulli with Pyro's forecasting, which fails for subclasses of Pyro's own."""

    def changed(distribution: Bernoulli, change: Callable[[Tensor], Tensor]) -> Bernoulli:
        def whole(temperature: Tensor) -> Tensor:
            return change(temperature.expand(distribution.batch_shape))

        estimator = estimator_base.renewed(distribution.estimator, whole)
        logits = change(distribution.logits)
        return Bernoulli(logits=logits, estimator=estimator, validate_args=False)

    def reshape_batch(distribution: Bernoulli, batch_shape: Sequence[int]) -> Bernoulli:
        return changed(distribution, lambda x: x.reshape(batch_shape))

    def prefix_condition(distribution: Bernoulli, data: Tensor) -> Bernoulli:
        return changed(distribution, lambda x: x[..., data.size(-2) :, :])

    util.reshape_batch.register(Bernoulli)(reshape_batch)
    util.prefix_condition.register(Bernoulli)(prefix_condition)
