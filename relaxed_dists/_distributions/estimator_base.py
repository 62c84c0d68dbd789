"""The interface of estimators, their temperatures, and a user's function as an estimator."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas, one_hot
from relaxed_dists._ops import Array, ArrayLike, Ops


def short_repr(x: Any) -> str:
    """A short repr: an array is shown as its only number, or as its dtype and shape."""
    if hasattr(x, "__dataclass_fields__") and not isinstance(x, type):
        inside = ", ".join(f"{f.name}={short_repr(getattr(x, f.name))}" for f in fields(x))
        return f"{type(x).__name__}({inside})"
    if not hasattr(x, "dtype"):
        return getattr(x, "__name__", repr(x))
    text = f"{str(x.dtype).rpartition('.')[2]}{list(x.shape)}"
    try:
        return f"{x.item():.4g}" if math.prod(x.shape) == 1 else text
    except (TypeError, RuntimeError):  # a traced array has no number to show
        return text


def value(ops: Ops, estimator: Any, one_hot: bool, logits: Array, noise: Array, more: Any) -> Array:
    """The estimator's value; a binary value is the first entry of a vector of two categories."""
    if one_hot:
        return estimator.one_hot(ops, logits, noise, more)
    if hasattr(estimator, "binary"):
        return estimator.binary(ops, logits, noise)
    two = formulas.bernoulli_log_probs(ops, logits)
    return estimator.one_hot(ops, two, ops.stack(noise, 0.0 * noise), more)[..., 0]


def checked(name: str, estimator: Any) -> Any:
    """The estimator; a function is wrapped as an estimator, and anything else is an error."""
    if not isinstance(estimator, type):
        if estimator is None or hasattr(estimator, "one_hot"):
            return estimator
        if callable(estimator):
            return Own(estimator)
    raise _errors.no_such_estimator(name, estimator)


def renewed(estimator: Any, change: Callable[[Any], Any]) -> Any:
    """An estimator with ``change`` applied to each of its temperatures; None stays None."""
    if estimator is None or not estimator.temperatures:
        return estimator
    old = {name: getattr(estimator, name) for name in estimator.temperatures}
    new = {name: change(temperature) for name, temperature in old.items()}
    same = all(new[name] is temperature for name, temperature in old.items())
    return estimator if same else replace(estimator, **new)


def broadcast(temperature: Any, gumbel: Array) -> Array:
    """The temperature, broadcast to the noise's shape without the last axis."""
    return 0.0 * gumbel[..., 0] + temperature


def held(ops: Ops, temperature: Any) -> Any:
    """The temperature as a constant, for hard values.

    The distribution of a hard value does not depend on the temperature, so the exact gradient with
    respect to the temperature is 0. The gradient through the relaxed sample is not 0 in the mean,
    and would make a learned temperature drift.
    """
    return ops.stop_gradient(temperature) if hasattr(temperature, "dtype") else temperature


def relaxed(ops: Ops, logits: Array, temperature: Any, noise: Array) -> Array:
    """softmax((logits + noise) / temperature)."""
    return one_hot.concrete(ops, logits, broadcast(temperature, noise), noise)[1]


class Estimator:
    """The interface of an estimator: it makes values that carry a gradient."""

    __module__ = "relaxed_dists"  # signatures show the public name

    noise_in_kernel: ClassVar[bool] = False
    """Whether the noise is only passed to kernels, a framework's faster replacements of formulas.

    A kernel may itself make the noise, from a seed.
    """

    temperatures: ClassVar[tuple[str, ...]] = ()
    """The names of the fields that are temperatures."""

    def __repr__(self) -> str:
        return short_repr(self)

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        # Arrays are checked by the distribution, which knows their framework.
        for name in self.temperatures:
            t = getattr(self, name)
            fine = not isinstance(t, (int, float)) or formulas.COLDEST <= t <= formulas.HOTTEST
            if t is None or not fine:
                raise _errors.bad_temperature(type(self).__name__, t, name)
        samples = getattr(self, "samples", 1)
        if not isinstance(samples, int) or not 1 <= samples < 2**31:
            raise _errors.no_samples(type(self).__name__, samples)

    @property
    def soft_temperature(self) -> ArrayLike | None:
        """The temperature of a soft value, a Gumbel-Softmax sample; None where values are hard."""
        return None

    @property
    def soft(self) -> bool:
        """Whether values may be any points of the simplex, not only its corners."""
        return self.soft_temperature is not None

    @property
    def draws(self) -> int:
        """The number of further arrays of Gumbel noise that the estimator needs."""
        return getattr(self, "samples", 0)

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """A value of shape ``(..., K)`` from logits and Gumbel noise of that shape.

        The hard value is the argmax of logits + gumbel; ``more`` is further Gumbel noise, of shape
        ``(draws, ..., K)``, if the estimator needs it.
        """
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class Own(Estimator):
    """A user's function of the logits, the one-hot draw and the Gumbel noise that made it."""

    function: Callable[[Array, Array, Array], Array]

    def one_hot(self, ops: Ops, logits: Array, gumbel: Array, more: Any = None) -> Array:
        """The value of the user's function."""
        return self.function(logits, formulas.hard_argmax(ops, logits, gumbel), gumbel)
