"""A distribution made from a family (family.py): the code that both frameworks share."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.estimator_base import short_repr
from relaxed_dists._distributions.family import Parameters
from relaxed_dists._ops import Array, ArrayLike


class Framework(Protocol):
    """The functions of a framework that a distribution needs besides array operations."""

    ops: Any

    def known(self, x: Array, /) -> bool:
        """Whether the array's numbers can be read, which is not possible in traced code."""

    def holds(self, condition: Array, /) -> bool:
        """Whether a condition is true everywhere; True if its numbers can't be read."""

    def cast(self, x: Array, dtype: Any, /) -> Array:
        """The array in another dtype."""

    def compute_dtype(self, *arrays: Array) -> Any:
        """The dtype to compute in, which is float32 or float64."""

    def limits(self, dtype: Any, /) -> tuple[float, float, float]:
        """The smallest normal number of a dtype, its spacing at 1, and its largest number."""

    def broadcast_to(self, x: Array, shape: Any, /) -> Array: ...
    def broadcast_shapes(self, *shapes: Any) -> Any: ...
    def inspecting(self) -> bool:
        """Whether the call comes from the framework's inspection of a model."""

    def relaxed_site(self, ours: bool, /) -> tuple[str, Any, bool] | None:
        """The site that an ELBO scores, if the guide draws it from a relaxed distribution.

        If ``ours``, relaxed distributions of the framework itself are ignored.
        """

    def differentiable(self, value: Array, /) -> bool:
        """Whether a gradient may go through the value."""


class FromFamily:
    """A mixin for the class of distributions in each backend's _adapter.py.

    That class lists the mixin before the framework's base class. It adds how parameters are made
    and checked, and how a distribution is expanded, drawn from and masked.
    """

    logits: Any
    temperature: Any
    batch_shape: Any
    event_shape: Any
    _family: Any
    _validate_args: Any

    _framework: ClassVar[Framework]
    _as_discrete: Callable[..., Any]
    _check_value: Callable[[Any], Any]
    _keep: Callable[..., Any]

    @property
    def _name(self) -> str:
        """The name of the class, or of the function that the user called, in messages."""
        return type(self).__name__

    def __repr__(self) -> str:
        names = [*inspect.signature(type(self)).parameters]
        given = {x: getattr(self, x, None) for x in names if x not in ("probs", "validate_args")}
        inside = [f"{name}={short_repr(x)}" for name, x in given.items() if x is not None]
        return f"{type(self).__name__}({', '.join(inside)})"

    def _ask(self, method: Callable[..., Any], *given: Any) -> Any:
        """The result of a method of the family."""
        return method(self._framework.ops, *given)

    @property
    def _scorer(self) -> str:
        """The name of the method or function that scores a value, in messages."""
        return f"{self._name}.log_prob"

    # The methods below make and check parameters.

    def _valid_logits(self, logits: Array) -> Array:
        # The maximum shows all errors: it is NaN or +inf if a logit is, and -inf if all are.
        one_hot = self._family.event_dim > 0
        top = abs(self._framework.ops.max(logits)) if one_hot else logits
        return top < formulas.HUGE

    def _check_logits(self, logits: Array) -> None:
        if not self._framework.holds(self._valid_logits(logits)):
            raise _errors.bad_logits(self._name, logits, self._family.event_dim > 0)

    def _valid_probs(self, probs: Array) -> Array:
        if self._family.event_dim > 0:
            total = self._framework.cast(probs, self._framework.compute_dtype(probs)).sum(-1)
            return (probs >= 0).all(-1) & (total > 0) & (total < float("inf"))
        return (probs >= 0) & (probs <= 1)

    def _check_probs(self, probs: Array) -> None:
        if not self._framework.holds(self._valid_probs(probs)):
            raise _errors.bad_probs(self._name, probs, self._family.event_dim > 0)

    def _joint_shape(self, temperature: Any, batch_shape: Any) -> Any:
        if not temperature:
            return batch_shape
        try:
            return self._framework.broadcast_shapes(temperature, batch_shape)
        except (RuntimeError, ValueError) as error:
            name = self._name
            raise _errors.bad_temperature_shape(name, temperature, batch_shape) from error

    def _parameters(self, dtype: Any = None) -> Parameters:
        """The parameters in the dtype to compute in, which is also the dtype of densities.

        Args:
            dtype: The dtype of the value that is scored; by default the dtype of draws.
        """
        compute = self._framework.compute_dtype(self.logits)
        temperature = self._temperature()
        temperature = None if temperature is None else self._framework.cast(temperature, compute)
        tiny, eps, _ = self._framework.limits(dtype or self.logits.dtype)
        return Parameters(self._framework.cast(self.logits, compute), temperature, tiny, eps)

    def _for_formulas(self) -> Parameters:
        """The parameters for formulas that no kernel replaces."""
        return self._parameters()

    def _temperature(self) -> Any:
        return self.temperature

    # The methods below check and score values.

    def _as_value(self, x: Array) -> Any:
        """x in the dtype of values. In float16 finite numbers are clipped to +-65,504."""
        dtype = self.logits.dtype
        if dtype.itemsize < x.dtype.itemsize:
            top = self._framework.limits(dtype)[2]
            x = self._framework.ops.where(
                abs(x) < float("inf"), self._framework.ops.clip(x, -top, top), x
            )
        return self._framework.cast(x, dtype)

    def _log_prob(self, value: Any, sample: Any, own: bool, soft: bool = False) -> Any:
        """The log density of a value.

        Args:
            value: The value, as the user passed it.
            sample: What the draw kept behind the value, such as its unrounded log, or None.
            own: Whether the sample was drawn from these very parameters.
            soft: Whether the value is a soft value of an estimator.
        """
        family = self._family
        if "log_prob" in family.lacks:
            return self._no_density(value, family.lacks["log_prob"](self._name))
        value = self._on_support(value, sample, soft)
        p = self._parameters(value.dtype)
        dtype = p.logits.dtype
        sample = None if sample is None else self._framework.cast(sample, dtype)
        if own:
            return self._ask(family.own_log_prob, p, sample, value)
        value = self._framework.cast(value, self._framework.compute_dtype(p.logits, value))
        p = self._unexpanded(p, value)
        return self._framework.cast(self._ask(family.log_prob, p, value, sample), dtype)

    def _unexpanded(self, p: Parameters, value: Any) -> Parameters:
        """The parameters before ``expand``, where the value alone gives log_prob its shape."""
        return p

    def _on_support(self, value: Any, sample: Any, soft: bool) -> Any:
        """The value as a floating array; an error if its density is not defined or not known."""
        family, name = self._family, self._name
        value = self._check_value(value)
        if sample is not None and not family.scores_value:
            return value
        if family.needs_sample and not self._framework.inspecting():
            raise _errors.lost(name)
        if self._validate_args:
            self._check_support(value, soft)
            if family.rounded is not None:
                self._refuse_rounded(value)
            lost = family.lost and sample is None and self._framework.differentiable(value)
            if lost and self._framework.relaxed_site(False):
                raise family.lost(name)
        return value

    def _check_support(self, value: Any, soft: bool = False) -> None:
        family = self._family
        slack = formulas.rounding(self._framework.limits(value.dtype)[1], self.event_shape)
        if not self._framework.holds(self._ask(family.valid, value, slack, soft)):
            raise _errors.off_support(self._scorer, value, family.noun, family.remedy)

    def _refuse_rounded(self, value: Any) -> None:
        """Refuse a value without a sample behind it, if rounding has lost the value's density.

        If the numbers can't be read, refuse the value if an ELBO scores it at a relaxed site.
        """
        lost = self._ask(self._family.rounded, self._parameters(value.dtype), value)
        seen = self._framework.known(lost)
        if bool(lost.any()) if seen else self._framework.relaxed_site(False):
            raise self._rounded(seen)

    def _rounded(self, seen: bool) -> ValueError:
        """The error about a rounded value."""
        return _errors.rounded(self._scorer, not self._family.event_dim, seen)

    def _no_density(self, value: Any, error: Exception) -> Any:
        """Raise the error; in an inspection, return a number that depends on all parameters."""
        if not self._framework.inspecting():
            raise error
        event = tuple(range(-self._family.event_dim, 0))
        total = value.sum(event) + self.logits.sum(event)
        return total if self.temperature is None else total + self.temperature

    def _cdf(self, value: Any, sample: Any) -> Any:
        cdf = self._family.method("cdf", self._name)
        value = self._check_value(value)
        if self._validate_args and sample is None:
            self._check_support(value)
        p = self._parameters()
        sample = None if sample is None else self._framework.cast(sample, p.logits.dtype)
        value = self._framework.cast(value, self._framework.compute_dtype(p.logits, value))
        return self._framework.cast(self._ask(cdf, p, value, sample), self.logits.dtype)

    def icdf(self, q: ArrayLike) -> Array:
        """The quantile of a probability: the smallest value whose cdf is q or more.

        Args:
            q: Probabilities from 0 to 1, of a shape that broadcasts with the batch shape.

        Returns:
            Values of shape ``sample_shape + batch_shape``, like those of a draw.

        Raises:
            ValueError: If an entry of q is not a number from 0 to 1.
        """
        icdf = self._family.method("icdf", self._name)
        q = self._check_value(q)
        if self._validate_args and not self._framework.holds((q >= 0) & (q <= 1)):
            raise _errors.bad_probability(self._name, q)
        p = self._parameters()
        return self._keep(*self._ask(icdf, p, self._framework.cast(q, p.logits.dtype)))

    # The methods below return moments, entropy and other properties.

    def _of(self, what: str) -> Any:
        """The result of the family's method of that name; an error if the family lacks it."""
        return self._ask(self._family.method(what, self._name), self._for_formulas())

    @property
    def probs(self) -> Array:
        """The probabilities, normalised."""
        return self._as_value(self._of("probs"))

    @property
    def mean(self) -> Array:
        """The mean, of the shape of a value; its error is at most 1e-6 (1e-10 in float64)."""
        return self._as_value(self._of("mean"))

    @property
    def variance(self) -> Array:
        """The variance of each entry, shaped as a value; its error is at most 3e-6 (1e-10)."""
        return self._as_value(self._of("variance"))

    @property
    def mode(self) -> Array:
        """The value of the highest density or mass."""
        return self._as_value(self._of("mode"))

    def entropy(self) -> Array:
        """The entropy, of the batch shape; its relative error is at most 1e-6."""
        return self._of("entropy")

    def enumerate_support(self, expand: bool = True) -> Array:
        """All values, of shape ``(number,) + batch_shape + event_shape``.

        Args:
            expand: Whether to expand the values to the batch shape; otherwise their batch axes
                have length 1.

        Raises:
            NotImplementedError: If the values can't be listed.
        """
        event = self.event_shape
        every = self._family.method("enumerate_support", self._name)(*event)
        values = self._framework.ops.constant(every, self.logits)
        values = values.reshape(-1, *(1,) * len(self.batch_shape), *event)
        shape = (values.shape[0], *self.batch_shape, *event)
        return self._framework.broadcast_to(values, shape) if expand else values

    def conjugate_update(self, other: Any) -> Any:
        """Raise an error, since no distribution is conjugate to this one."""
        raise _errors.missing(self._name, "conjugate_update", self._family)
