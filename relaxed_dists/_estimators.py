"""Pathwise estimators for the discrete distributions: small values, the same in both backends."""

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol

from relaxed_dists import _errors, _formulas
from relaxed_dists._formulas import Array, Ops

__all__ = ["Estimator", "GumbelSoftmax", "StraightThrough"]


class Estimator(Protocol):
    """What a discrete distribution asks of its estimator: a value that carries a gradient."""

    @property
    def soft(self) -> bool:
        """Whether the value is a point of the simplex, not a corner of it."""
        ...

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array) -> Array:
        """A value of shape ``(..., K)`` from logits and Gumbel noise of that shape."""
        ...

    def binary(self, ops: Ops, logits: Array, logistic: Array) -> Array:
        """A value from logits and logistic noise of the same shape."""
        ...


def shown(x: Any) -> str:
    """An estimator by its fields, an array by its number, or by its shape."""
    if hasattr(x, "__dataclass_fields__"):
        inside = ", ".join(f"{f.name}={shown(getattr(x, f.name))}" for f in fields(x))
        return f"{type(x).__name__}({inside})"
    if not hasattr(x, "shape"):
        return repr(x)
    try:
        return f"{x.item():.4g}" if math.prod(x.shape) == 1 else str(tuple(x.shape))
    except (TypeError, RuntimeError):  # traced
        return str(tuple(x.shape))


@dataclass(frozen=True)
class StraightThrough:
    r"""A hard sample whose gradient is that of the probabilities.

    The value is the one-hot :math:`D`, the gradient :math:`g J(\mathrm{softmax}(\theta))` with
    :math:`J(p) = \mathrm{diag}(p) - p p^T` and :math:`g` the gradient at :math:`D`. Biased, except
    for linear functions.

    Reference:
        Bengio, Leonard, Courville, *Estimating or Propagating Gradients Through Stochastic
        Neurons* (2013), section 4.

    Example:
        >>> StraightThrough()
        StraightThrough()
    """

    @property
    def soft(self) -> bool:
        """False, since its values are one-hot."""
        return False

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array) -> Array:
        """A one-hot value with the gradient of softmax(logits)."""
        hard = _formulas.hardest(ops, logits, gumbel)
        return _formulas.straight_through(ops, hard, _formulas.softmax(ops, logits))

    def binary(self, ops: Ops, logits: Array, logistic: Array) -> Array:
        """A value of 0 or 1 with the gradient of sigmoid(logits)."""
        hard = ops.where(logits + logistic > 0, 0.0 * logistic + 1.0, 0.0)
        return _formulas.straight_through(ops, hard, ops.exp(-ops.softplus(-logits)))


@dataclass(frozen=True)
class GumbelSoftmax:
    r"""The Gumbel-Softmax sample of the same noise, or its gradient behind the hard sample.

    The soft value is :math:`\mathrm{softmax}((\theta + G)/\tau)`. With ``hard=True`` (straight-
    through Gumbel-Softmax) the value is its argmax, one-hot, and the gradient the soft value's.
    With ``hard=False`` the value is the soft one; the discrete law then scores it by its linear
    extension :math:`\sum_k z_k \log p_k`: the objective of Jang et al., not a bound.

    Args:
        temperature: A positive number, or an array that broadcasts with the batch shape.
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

    temperature: Any
    hard: bool = True

    def __post_init__(self) -> None:
        # Arrays are checked by the distribution, which knows the framework.
        t = self.temperature
        if t is None or (
            isinstance(t, int | float) and not _formulas.COLDEST <= t <= _formulas.HOTTEST
        ):
            raise _errors.bad_temperature("GumbelSoftmax", self.temperature)

    @property
    def soft(self) -> bool:
        """Whether the value is a point of the simplex, not a corner of it."""
        return not self.hard

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array) -> Array:
        """softmax((logits + gumbel) / temperature), or its argmax with that gradient."""
        temperature = 0.0 * gumbel[..., 0] + self.temperature
        soft = ops.exp(_formulas.exp_concrete(ops, logits, temperature, gumbel))
        if not self.hard:
            return soft
        # Of the scores, not of soft: at low temperatures two entries of soft can round to a tie.
        return _formulas.straight_through(ops, _formulas.hardest(ops, logits, gumbel), soft)

    def binary(self, ops: Ops, logits: Array, logistic: Array) -> Array:
        """sigmoid((logits + logistic) / temperature), or its rounding with that gradient."""
        y = _formulas.logit_concrete(ops, logits, self.temperature, logistic)
        soft = ops.exp(-ops.softplus(-y))
        if not self.hard:
            return soft
        hard = ops.where(logits + logistic > 0, 0.0 * soft + 1.0, 0.0)
        return _formulas.straight_through(ops, hard, soft)
