"""The discrete distributions with a pathwise estimator, and their KL divergences."""

from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.infer import ELBO
from torch import Tensor
from torch.distributions import constraints

from relaxed_dists import _errors
from relaxed_dists._distributions import estimators, formulas, machinery
from relaxed_dists._distributions.elbo import relaxed_site
from relaxed_dists._distributions.estimators import Estimator, ReinMax, shown
from relaxed_dists._infer.pairing import mixed

from .._adapter import LogitsDistribution, RelaxedDistribution
from .._torch.carrier import attach, behind
from .._torch.input import real
from .._torch.noise import gumbel
from .._torch.ops import compute_dtype, ops
from .._torch.quadrature import moments
from .._torch.state import compiling, holds
from .constraints import _EstimatedBoolean, _EstimatedOneHot, _SoftBoolean, _SoftOneHot, tolerance


class _Discrete(LogitsDistribution):
    # The public classes below are also Pyro's of the same names, because its enumeration and funsor
    # ask for those; all that Pyro's compute with is overridden. This attribute hides their `logits`
    # (a property without a setter), so that an instance can have its own.
    logits: Any = None
    _support_text = ""
    _supports: Any  # three: without an estimator, of hard values, and of soft ones
    estimator: Estimator | None

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        estimator: Estimator | Callable[..., Any] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, None, validate_args)
        name = type(self).__name__
        validate = self._validate_args

        def fitted(temperature: Any) -> Tensor:
            heat = real(temperature, name, "temperature", self.logits)
            tensor = self._checked_temperature(heat, self.logits, validate)
            if self._joint_shape(tensor.shape, self.batch_shape) != self.batch_shape:
                raise _errors.bad_temperature_shape(name, tensor.shape, self.batch_shape)
            if validate and isinstance(estimator, ReinMax) and not holds(tensor >= 1):
                raise _errors.too_cold(temperature)
            return tensor

        self.estimator = estimators.renewed(estimators.checked(name, estimator), fitted)
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

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
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

    def __repr__(self) -> str:
        own = super().__repr__()
        return own if self.estimator is None else f"{own[:-1]}, estimator: {shown(self.estimator)})"

    def _theirs(self) -> Any:
        if self.estimator is not None:
            return super()._theirs()
        theirs = dist.OneHotCategorical if self._rows else dist.Bernoulli
        return theirs(logits=self.logits, validate_args=False)

    def _compute_logits(self) -> Tensor:
        return self.logits.to(compute_dtype(self.logits))

    def _two(self) -> Tensor:
        """The logits with their categories on the last axis."""
        logits = self._compute_logits()
        return logits if self._rows else formulas.bernoulli_log_probs(ops, logits)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw a value that carries the estimator's gradient.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``: on the support, or soft
            ones if the estimator's are.

        Raises:
            NotImplementedError: If the distribution has no estimator.
        """
        return self._rsample(sample_shape)

    def _rsample(self, sample_shape: Sequence[int], key: torch.Generator | None = None) -> Tensor:
        if self.estimator is None:
            raise _errors.no_estimator(type(self).__name__)
        logits = self._compute_logits()
        noise = more = self._noise(sample_shape, logits, key)
        if self.estimator.draws:
            shape = (self.estimator.draws, *noise.shape, *(() if self._rows else (2,)))
            more = gumbel(torch.Size(shape), logits, key)
        value = estimators.value(ops, self.estimator, self._rows, logits, noise, more)
        soft = self.estimator.soft
        # A binary soft value is a copy, which may be written to: exp's gradient needs its result.
        value = value.to(self.logits.dtype, copy=soft and not self._rows)
        if soft:
            return attach(value, True, "soft")
        for name in self.estimator.temperatures:
            temperature = getattr(self.estimator, name)
            if temperature.requires_grad:  # 0, in place of torch's error that there is none
                value = value + 0.0 * (temperature[..., None] if self._rows else temperature)
        return value

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw without a gradient. Args and Returns as those of rsample."""
        if self.estimator is not None:
            return super().sample(sample_shape)
        with torch.no_grad():
            logits = self._compute_logits()
            noise = self._noise(sample_shape, logits)
            hard = formulas.hardest(ops, logits, noise) if self._rows else logits + noise > 0
            return hard.to(self.logits.dtype)

    def _refuse_relaxed(self, value: Any) -> None:
        """Refuse the mass of a site's value in an ELBO whose guide has a density there."""
        if behind(value, "log_simplex" if self._rows else "logit") is None:
            return
        site = None if compiling() else relaxed_site(ELBO, (RelaxedDistribution,))
        if site is not None and not site[2]:
            raise mixed(site[0], type(self).__name__, type(site[1]).__name__, "The ELBO")

    def _checked(self, value: Any) -> Tensor:
        self._refuse_relaxed(value)
        soft = behind(value, "soft") or self._soft
        value = self._check_value(value)
        if self._validate_args:
            fine = (value >= 0) & (value <= 1) if soft else (value == 0) | (value == 1)
            if self._rows:
                slack = tolerance(value.dtype, value.shape[-1])
                fine = fine.all(-1) & ((value.sum(-1) - 1).abs() <= slack)
            self._refuse(value, fine, self._support_text, _errors.SOFT_VALUES)
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        """The log mass; of a soft value its linear extension, sum_k value_k log p_k.

        Args:
            value: Values on the support, or soft ones of the estimator, of a shape that ends with
                the event shape.

        Returns:
            Log masses of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        value = self._checked(value)
        logits = self._two()
        two = value if self._rows else ops.stack(value, 1 - value)
        return formulas.categorical_log_prob(ops, logits, two.to(logits.dtype))

    def entropy(self) -> Tensor:
        """The exact entropy, of the batch shape."""
        return formulas.categorical_entropy(ops, self._two())

    def _check_enumerable(self) -> None:
        if self.estimator is not None:
            raise _errors.no_enumeration(type(self).__name__)

    @property
    def _soft(self) -> bool:
        """Whether the values are soft: points of the simplex, or numbers from 0 to 1."""
        return self.estimator is not None and self.estimator.soft

    def _soft_moments(self) -> tuple[Tensor, Tensor]:
        estimator: Any = self.estimator
        found = moments(self._rows, self._compute_logits(), estimator.soft_temperature)
        return found[0].to(self.logits.dtype), found[1].to(self.logits.dtype)

    @property
    def mean(self) -> Tensor:
        """The probabilities; the mean of soft values, by quadrature to 1e-6 (1e-10 in float64)."""
        return self._soft_moments()[0] if self._soft else self.probs

    @property
    def variance(self) -> Tensor:
        """p (1 - p), for each entry; of soft values their variance, as exact as the mean."""
        return self._soft_moments()[1] if self._soft else self.probs * (1 - self.probs)


class OneHotCategorical(_Discrete, dist.OneHotCategorical):  # type: ignore[override]
    r"""The one-hot categorical law, whose sample carries an estimator's gradient if it has one.

    :math:`\log p(z) = \sum_k z_k \log\mathrm{softmax}(\theta)_k`. Density, entropy and
    KL are those of the discrete law, whatever the estimator; without one the law can be enumerated.

    Args:
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        estimator: None for the plain law (a prior, enumerable), or a pathwise estimator such as
            ``StraightThrough()`` or ``GumbelSoftmax(temperature, hard=True)``.
        validate_args: Whether to check arguments and values; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
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

    _supports: Any = (constraints.one_hot, _EstimatedOneHot(), _SoftOneHot())
    _support_text = "one-hot vectors"

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All one-hot values, of shape ``(K,) + batch_shape + (K,)``.

        Args:
            expand: Whether to expand them to the batch shape, or leave ones there.

        Raises:
            NotImplementedError: If the distribution has an estimator.
        """
        self._check_enumerable()
        k = self.logits.shape[-1]
        values = torch.eye(k, dtype=self.logits.dtype, device=self.logits.device)
        values = values.reshape((k,) + (1,) * len(self.batch_shape) + (k,))
        return values.expand((k, *self.batch_shape, k)) if expand else values

    @property
    def mode(self) -> Tensor:
        """The most probable value."""
        return formulas.hardest(ops, self._compute_logits()).to(self.logits.dtype)


class Bernoulli(_Discrete, dist.Bernoulli):
    r"""The Bernoulli law, whose sample carries an estimator's gradient if it has one.

    :math:`\log p(z) = z \log\sigma(\theta) + (1 - z) \log\sigma(-\theta)`. Density, entropy and
    KL are those of the discrete law, whatever the estimator; without one the law can be enumerated.

    Args:
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        estimator: None for the plain law (a prior, enumerable), or a pathwise estimator such as
            ``StraightThrough()`` or ``GumbelSoftmax(temperature, hard=True)``.
        validate_args: Whether to check arguments and values; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> round(Bernoulli(probs=torch.tensor(0.25)).log_prob(torch.tensor(1.0)).exp().item(), 4)
        0.25
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    _supports: Any = (constraints.boolean, _EstimatedBoolean(), _SoftBoolean())
    _rows = False
    _support_text = "zeros and ones"

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Zero and one, of shape ``(2,) + batch_shape``.

        Args:
            expand: Whether to expand them to the batch shape, or leave ones there.

        Raises:
            NotImplementedError: If the distribution has an estimator.
        """
        self._check_enumerable()
        values = torch.arange(2, dtype=self.logits.dtype, device=self.logits.device)
        values = values.reshape((2,) + (1,) * len(self.batch_shape))
        return values.expand((2, *self.batch_shape)) if expand else values

    @property
    def mode(self) -> Tensor:
        """The more probable value; 0 at a tie."""
        return (self.logits > 0).to(self.logits.dtype)


def _tell_forecast(util: Any) -> None:
    """Register with Pyro's forecasting, which looks Pyro's Bernoulli up by its exact class."""

    def changed(distribution: Bernoulli, change: Callable[[Tensor], Tensor]) -> Bernoulli:
        def whole(temperature: Tensor) -> Tensor:
            return change(temperature.expand(distribution.batch_shape))

        estimator = estimators.renewed(distribution.estimator, whole)
        logits = change(distribution.logits)
        return Bernoulli(logits=logits, estimator=estimator, validate_args=False)

    def reshape_batch(distribution: Bernoulli, batch_shape: Sequence[int]) -> Bernoulli:
        return changed(distribution, lambda x: x.reshape(batch_shape))

    def prefix_condition(distribution: Bernoulli, data: Tensor) -> Bernoulli:
        return changed(distribution, lambda x: x[..., data.size(-2) :, :])

    util.reshape_batch.register(Bernoulli)(reshape_batch)
    util.prefix_condition.register(Bernoulli)(prefix_condition)
