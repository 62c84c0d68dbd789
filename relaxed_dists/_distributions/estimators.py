"""Pathwise estimators for the discrete distributions: frozen dataclasses, for both backends."""

import math
from dataclasses import dataclass
from typing import Any

from relaxed_dists import _errors
from relaxed_dists._distributions import bernoulli, formulas, one_hot
from relaxed_dists._distributions.estimator_base import Estimator, broadcast, held, relaxed
from relaxed_dists._ops import Array, ArrayLike, Ops

__all__ = [
    "DecoupledGumbelSoftmax",
    "GappedStraightThrough",
    "GumbelRao",
    "GumbelSoftmax",
    "ReinMax",
    "ReinMaxRao",
    "StraightThrough",
]


@dataclass(frozen=True, repr=False)
class StraightThrough(Estimator):
    """A hard sample whose gradient is that of the probabilities.

    The value is a one-hot draw D. The gradient of a function of D with respect to the logits is
    ``g J(softmax(logits))``, with ``J(p) = diag(p) - p p^T`` and g the function's gradient at D.
    The estimator is biased, except for linear functions.

    Reference:
        Bengio, Leonard, Courville, *Estimating or Propagating Gradients Through Stochastic
        Neurons* (2013), section 4.

    Example:
        >>> StraightThrough()
        StraightThrough()
    """

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """A one-hot value with the gradient of softmax(logits)."""
        hard = formulas.hard_argmax(ops, logits, gumbel)
        return formulas.straight_through(ops, hard, formulas.softmax(ops, logits))

    def binary(self, ops: Ops, logits: Array, logistic: Array) -> Array:
        """A value of 0 or 1 with the gradient of sigmoid(logits)."""
        hard = ops.where(logits + logistic > 0, 0.0 * logistic + 1.0, 0.0)
        return formulas.straight_through(ops, hard, ops.exp(-ops.softplus(-logits)))


@dataclass(frozen=True, repr=False)
class GumbelSoftmax(Estimator):
    """A Gumbel-Softmax sample: a soft value, or a hard value with the soft value's gradient.

    The soft value is ``softmax((logits + G) / temperature)``, with Gumbel noise G. With
    ``hard=True`` (straight-through Gumbel-Softmax) the value is the one-hot argmax of the soft
    value, with the soft value's gradient. With ``hard=False`` the value is the soft one. The
    discrete distribution then scores a soft value z by the linear extension ``sum_k z_k log(p_k)``,
    the objective of Jang et al., which is not a bound.

    Args:
        temperature: A positive number, or an array that broadcasts with the batch shape. With
            ``hard=True`` its gradient is 0, since the distribution of hard values does not depend
            on the temperature: a learned temperature then does not change.
        hard: Whether the value is one-hot.

    Raises:
        ValueError: If the temperature is not a number from 2**-20 to 2**20.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), sections 2.1
        and 2.2.

    Example:
        >>> GumbelSoftmax(0.5)
        GumbelSoftmax(temperature=0.5, hard=True)
    """

    temperatures = ("temperature",)
    noise_in_kernel = True
    temperature: ArrayLike
    hard: bool = True

    @property
    def soft_temperature(self) -> ArrayLike | None:
        """The temperature of soft values; None if values are hard."""
        return None if self.hard else self.temperature

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """The softmax of (logits + gumbel) / temperature; if hard, its argmax with its gradient."""
        temperature = held(ops, self.temperature) if self.hard else self.temperature
        return one_hot.concrete_value(ops, logits, temperature, gumbel, self.hard)

    def binary(self, ops: Ops, logits: Array, logistic: Array) -> Array:
        """The sigmoid of (logits + logistic) / temperature; if hard, rounded, with its gradient."""
        temperature = held(ops, self.temperature) if self.hard else self.temperature
        return bernoulli.binary_concrete_value(ops, logits, temperature, logistic, self.hard)


@dataclass(frozen=True, repr=False)
class DecoupledGumbelSoftmax(Estimator):
    """A Gumbel-Softmax sample at one temperature with the gradient at another.

    The value is the soft ``softmax((logits + G) / forward)``, with Gumbel noise G. Its gradient is
    that of ``softmax((logits + G) / backward)``, with the same noise. At equal temperatures the
    estimator is ``GumbelSoftmax(temperature, hard=False)``; as the forward temperature goes to 0,
    the estimator becomes ``GumbelSoftmax(backward, hard=True)``. The density, entropy and KL of the
    distribution do not depend on the temperatures.

    Args:
        forward: The temperature of the value: a positive number, or an array that broadcasts with
            the batch shape. It gets a gradient.
        backward: The temperature of the gradient: a number or an array, like ``forward``. Its own
            gradient is 0, since no value depends on it.

    Raises:
        ValueError: If a temperature is not a number from 2**-20 to 2**20.

    Reference:
        Shah, Yan, Mozer, Liu, *Improving Discrete Optimisation Via Decoupled Straight-Through
        Gumbel-Softmax* (2024).

    Example:
        >>> DecoupledGumbelSoftmax(forward=0.3, backward=1.0)
        DecoupledGumbelSoftmax(forward=0.3, backward=1.0)
    """

    temperatures = ("forward", "backward")
    forward: ArrayLike
    backward: ArrayLike

    @property
    def soft_temperature(self) -> ArrayLike | None:
        """The forward temperature; the backward temperature affects only gradients."""
        return self.forward

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """The soft value at the forward temperature, with the gradient at the backward one."""
        forward = relaxed(ops, ops.stop_gradient(logits), self.forward, gumbel)
        backward = relaxed(ops, logits, held(ops, self.backward), gumbel)
        return forward + (backward - ops.stop_gradient(backward))


@dataclass(frozen=True, repr=False)
class GumbelRao(Estimator):
    """Straight-through Gumbel-Softmax, averaged over the noise that gives the same hard sample.

    The value is a one-hot draw D. The gradient is the mean of the gradients of
    ``softmax((logits + G) / temperature)`` over draws of the noise G for which D is the argmax,
    where G is treated as a constant. This gradient has the same expectation as the gradient of
    ``GumbelSoftmax(temperature)``, and less variance.

    Args:
        temperature: A positive number, or an array that broadcasts with the batch shape; its
            gradient is 0, as for a hard `GumbelSoftmax`.
        samples: The number of draws of the noise, at least 1; memory grows with it.

    Raises:
        ValueError: If the temperature is not a number from 2**-20 to 2**20, or samples is not an
            integer of at least 1.

    Reference:
        Paulus, Maddison, Krause, *Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
        Estimator* (2021), section 3.

    Example:
        >>> GumbelRao(0.5, samples=10)
        GumbelRao(temperature=0.5, samples=10)
    """

    temperatures = ("temperature",)
    temperature: ArrayLike
    samples: int = 10

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """A one-hot value with the mean gradient of soft values whose argmax is this value."""
        hard = formulas.hard_argmax(ops, logits, gumbel)
        noise = formulas.conditional_gumbel(ops, logits, hard, more)
        soft = relaxed(ops, logits, held(ops, self.temperature), noise).mean(0)
        return formulas.straight_through(ops, hard, soft)


@dataclass(frozen=True, repr=False)
class GappedStraightThrough(Estimator):
    """A hard sample with the gradient of a softmax in which the drawn category leads by a gap.

    The value is a one-hot draw D, and its gradient is that of
    ``softmax((logits + m) / temperature)``. The constant m raises the drawn category's logit to the
    largest one, and lowers the others where they are less than the gap below it.

    Args:
        temperature: A positive number, or an array that broadcasts with the batch shape; its
            gradient is 0, as for a hard `GumbelSoftmax`.
        gap: The least difference between the drawn category's logit and the others, at least 0.

    Raises:
        ValueError: If the temperature is not a number from 2**-20 to 2**20, or the gap is negative
            or not finite.

    Reference:
        Fan, Chi, Rudnicky, Ramadge, *Training Discrete Deep Generative Models via Gapped
        Straight-Through Estimator* (2022), section 4.

    Example:
        >>> GappedStraightThrough(0.5)
        GappedStraightThrough(temperature=0.5, gap=1.0)
    """

    temperatures = ("temperature",)
    temperature: ArrayLike
    gap: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _errors.is_number(self.gap) or not 0 <= self.gap < math.inf:
            raise _errors.bad_gap(type(self).__name__, self.gap)

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """A one-hot value with the gradient of a softmax whose argmax is the value."""
        hard = formulas.hard_argmax(ops, logits, gumbel)
        move = formulas.gap(ops, logits, hard, self.gap)
        soft = relaxed(ops, logits, held(ops, self.temperature), move)
        return formulas.straight_through(ops, hard, soft)


@dataclass(frozen=True, repr=False)
class ReinMax(Estimator):
    """A hard sample with a gradient that is exact for quadratic functions.

    The value is a one-hot draw D, and the gradient of a function of D with respect to the logits is
    ``2 J(pi_D) g - J(pi) g / 2``. Here g is the function's gradient at D,
    ``J(p) = diag(p) - p p^T``, ``pi = softmax(logits)`` and
    ``pi_D = (softmax(logits / temperature) + D) / 2`` (Heun's method, of second order). The mean of
    the gradient is exact for quadratic functions at temperature 1. A second derivative is an error.

    Args:
        temperature: A number of at least 1, or an array that broadcasts with the batch shape; its
            gradient is 0, as for a hard `GumbelSoftmax`.

    Raises:
        ValueError: If the temperature is not a number from 1 to 2**20.

    Reference:
        Liu, Dong, Liu, Yu, Gao, *Bridging Discrete and Backpropagation: Straight-Through and
        Beyond* (2023), algorithm 2.

    Example:
        >>> ReinMax()
        ReinMax(temperature=1.0)
    """

    temperatures = ("temperature",)
    temperature: ArrayLike = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        # At temperatures below 1, the bias was larger for every function that was measured, and the
        # variance was not smaller.
        if isinstance(self.temperature, (int, float)) and self.temperature < 1:
            raise _errors.too_cold(self.temperature)

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """A one-hot value with the gradient of Heun's method."""
        hard = formulas.hard_argmax(ops, logits, gumbel)
        pi = formulas.softmax(ops, logits)
        temperature = held(ops, self.temperature)
        pi_d = (relaxed(ops, logits, temperature, 0.0 * gumbel) + hard) / 2
        slope = 2 * ops.slope(logits, pi_d) - ops.slope(logits, pi) / 2
        return ops.stop_gradient(hard) + slope


@dataclass(frozen=True, repr=False)
class ReinMaxRao(Estimator):
    """ReinMax with an average over Gumbel-Softmax samples in its gradient, for less variance.

    The gradient is that of `ReinMax` at temperature 1, with ``J(pi_D)`` replaced by the mean of
    ``J(x) / temperature`` over draws of ``x = softmax((log(pi_D) + G) / temperature)``. Here G is
    Gumbel noise for which D is the argmax. A second derivative is an error.

    Args:
        temperature: A positive number, or an array that broadcasts with the batch shape; its
            gradient is 0, as for a hard `GumbelSoftmax`.
        samples: The number of draws of the noise, at least 1; memory grows with it.

    Raises:
        ValueError: If the temperature is not a number from 2**-20 to 2**20, or samples is not an
            integer of at least 1.

    Reference:
        Wang, Bui, *Beyond ReinMax: Low-Variance Gradient Estimators for Discrete Latent Variables*
        (2026), section 3.

    Example:
        >>> ReinMaxRao(0.7)
        ReinMaxRao(temperature=0.7, samples=10)
    """

    temperatures = ("temperature",)
    temperature: ArrayLike
    samples: int = 10

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """A one-hot value with the gradient of Heun's method, averaged over the noise."""
        hard = formulas.hard_argmax(ops, logits, gumbel)
        pi = formulas.softmax(ops, logits)
        middle = formulas.log_middle(ops, logits, hard)
        noise = formulas.conditional_gumbel(ops, middle, hard, more)
        temperature = held(ops, self.temperature)
        x = relaxed(ops, middle, temperature, noise)
        scale = 2 / broadcast(temperature, x)[..., None]
        slope = (scale * ops.slope(logits, x)).mean(0) - ops.slope(logits, pi) / 2
        return ops.stop_gradient(hard) + slope
