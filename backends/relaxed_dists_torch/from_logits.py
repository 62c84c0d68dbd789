"""Distributions from logits, in torch alone: the checks of parameters, draws and densities.

Pyro's adapter makes Pyro's distributions from the classes of this module. A family is an object
that has the formulas of a distribution, for any framework. A drawn value keeps, in an attribute,
its relaxed sample: the numbers before rounding, from which ``log_prob`` computes the density.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor

from relaxed_dists import _errors
from relaxed_dists._distributions import estimator_base, formulas
from relaxed_dists._distributions.estimated import Estimated
from relaxed_dists._distributions.family import Parameters
from relaxed_dists._distributions.from_family import FromFamily
from relaxed_dists._ops import ArrayLike

from . import by_operator
from .autograd import linked
from .carrier import from_origin, get_relaxed, keep_relaxed, note_origin, version
from .input import FLOATING, real, result_dtype
from .kernels import look
from .noise import gumbel, logistic, seed_for
from .ops import compute_dtype, ops
from .state import eager, holds, known, numbers, traced, transformed

_LIMITS = {
    dtype: (finfo.tiny, finfo.eps, finfo.max)
    for dtype in FLOATING
    for finfo in [torch.finfo(dtype)]
}


def tensor(x: Tensor | float, dtype: torch.dtype, device: Any) -> Tensor:
    """x as a tensor of a dtype on a device."""
    if isinstance(x, Tensor):
        same = x.dtype is dtype and x.device == device
        return x if same else x.to(device=device, dtype=dtype)
    # as_tensor would let torch.compile compile anew for each number, and torch.jit.trace warn.
    return torch.full((), x, dtype=dtype, device=device)


def expanded(x: Tensor, shape: Size) -> Tensor:
    """x expanded to a shape.

    If x already has the shape, x itself is returned, since a view of x would not notice the
    assignment ``x.data = y``.
    """
    return x if x.shape == shape else x.expand(shape)


def checked_size(name: str, shape: Any) -> Size:
    """The user's shape as a Size, or an error if it is not a shape but, for example, a number."""
    try:
        return Size(shape)
    except TypeError as error:
        raise _errors.not_a_shape(name, shape) from error


class Torch:
    """The functions of torch that the base class FromFamily calls."""

    ops = ops
    known, holds = staticmethod(known), staticmethod(holds)
    compute_dtype = staticmethod(compute_dtype)
    broadcast_shapes = staticmethod(torch.broadcast_shapes)

    @staticmethod
    def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
        return x if x.dtype is dtype else x.to(dtype)

    @staticmethod
    def limits(dtype: torch.dtype) -> tuple[float, float, float]:
        return _LIMITS[dtype]

    @staticmethod
    def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
        return x.expand(shape)

    @staticmethod
    def inspecting() -> bool:
        return False

    @staticmethod
    def relaxed_site(ours: bool) -> tuple[str, Any, bool] | None:
        return None

    @staticmethod
    def differentiable(value: Tensor) -> bool:
        return value.requires_grad


class FromLogits(FromFamily):
    """A distribution made from a family and logits, and from a temperature unless it is None."""

    logits: Tensor
    temperature: Any = None
    _framework: ClassVar[Any] = Torch()
    _has_temperature: ClassVar[bool] = False

    def __init__(
        self,
        temperature: ArrayLike,
        probs: ArrayLike | None = None,
        logits: ArrayLike | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, event_dim = self._name, self._family.event_dim
        if temperature is None and self._has_temperature:
            raise _errors.bad_temperature(name, temperature)
        _errors.one_of(name, probs, logits)
        validate = type(self)._validate_args if validate_args is None else validate_args
        what, given = ("logits", logits) if probs is None else ("probs", probs)
        given = real(given, name, what, temperature)
        raw = 0.0 if temperature is None else real(temperature, name, "temperature", given)
        dtype = result_dtype(given, raw)
        device = getattr(given, "device", None) or getattr(raw, "device", None)
        given = tensor(given, dtype, device)
        if event_dim and 0 in (given.dim(), *given.shape[-1:]):
            raise _errors.no_categories(name, what, given.shape)
        all_valid = validate and self._all_valid(given, raw, probs is None)
        if all_valid or (probs is None and look(given, event_dim > 0) in (0, 1)):
            pass  # the logits or probs are valid: sanitize_logits would not change them
        elif validate and known(given) and given.numel():
            (self._check_logits if probs is None else self._check_probs)(given)
        # The kernels treat NaN and infinity as masks. On a GPU that saves sanitize_logits and its
        # three launches, in compiled code memory and passes over the logits and their gradient.
        elif not (event_dim and self._family.noise_in_kernel) or not (
            by_operator.usable(given) if given.is_cpu else eager()
        ):
            given = formulas.sanitize_logits(ops, given, event_dim > 0)
        if probs is not None:
            log = formulas.log_probs if event_dim else formulas.logit
            given = log(ops, given.to(compute_dtype(given))).to(dtype)
        split = max(given.dim() - event_dim, 0)
        self._batch_shape, self._event_shape = given.shape[:split], given.shape[split:]
        if temperature is not None:
            self.temperature = (
                tensor(raw, compute_dtype(given), given.device)
                if all_valid
                else self._checked_temperature(raw, given, validate)
            )
            self._batch_shape = self._joint_shape(self.temperature.shape, self._batch_shape)
        self.logits = expanded(given, self._batch_shape + self._event_shape)
        self._validate_args = validate
        if self._family.checks_logits:
            family = self._family = self._family.checked(name, self._event_shape)
            if validate and known(self.logits) and not family.possible(numbers(self.logits)):
                raise family.impossible(name, self.logits)

    def _all_valid(self, given: Tensor, temperature: Tensor | float, is_logits: bool) -> bool:
        """Whether logits (or probs) and temperature are valid tensors of one GPU.

        One test of both waits for the GPU once. If it fails, or if the tensors are elsewhere, each
        parameter is checked by itself.
        """
        if given.is_cpu or not isinstance(temperature, Tensor) or not temperature.numel():
            return False
        if temperature.device != given.device or not given.numel():
            return False
        if not known(given) or not known(temperature):
            return False
        fine = self._valid_logits(given) if is_logits else self._valid_probs(given)
        low, high = formulas.COLDEST, formulas.HOTTEST
        return bool(fine.all() & ((temperature >= low) & (temperature <= high)).all())

    def _checked_temperature(
        self, given: Any, like: Tensor, validate: bool, field: str = "temperature"
    ) -> Tensor:
        given = real(given, self._name, field, like)
        low, high = formulas.COLDEST, formulas.HOTTEST
        if isinstance(given, float) and not traced():
            if validate and not low <= given <= high:
                raise _errors.bad_temperature(self._name, given, field)
            # torch.full is used, since torch.as_tensor would wait for the GPU. If given is NaN,
            # max returns low.
            within = min(max(low, given), high)
            return torch.full((), within, dtype=compute_dtype(like), device=like.device)
        temperature = tensor(given, compute_dtype(like), like.device)
        if not validate or not known(temperature):
            return torch.nan_to_num(temperature, low, high, low).clamp(low, high)
        if not temperature.dim():  # the usual case, which takes four operations of torch fewer
            fine = low <= temperature.item() <= high
        else:
            fine = bool(((temperature >= low) & (temperature <= high)).all())
        if not fine:
            raise _errors.bad_temperature(self._name, given, field)
        return temperature

    def _for_formulas(self) -> Parameters:
        # In compiled code __init__ leaves NaN and infinity in the logits, for the kernels. A
        # distribution that leaves compiled code keeps them.
        p = self._parameters()
        if self._family.event_dim and (by_operator.usable(p.logits) or look(p.logits, True) == 2):
            p = p._replace(logits=formulas.sanitize_logits(ops, p.logits, True))
        return p

    @property
    def batch_shape(self) -> Size:
        """The shape of independent, differently parameterised events."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The event's shape, ``(K,)`` for categories, ``()`` if binary, ``(N, N)`` for matrices."""
        return self._event_shape

    def _noise(
        self,
        sample_shape: Sequence[int],
        like: Tensor,
        key: torch.Generator | None,
        in_kernel: bool,
    ) -> Any:
        """The noise of a draw or, if ``in_kernel`` and kernels can make the noise, its seed."""
        if not (key is None or isinstance(key, torch.Generator)):
            raise _errors.not_a_generator(key)
        shape = checked_size(self._name, sample_shape) + self.logits.shape
        if in_kernel and (seed := seed_for(like, shape, key)) is not None:
            return seed
        draw = gumbel if self._family.event_dim else logistic
        return draw(shape, like, key)

    def _draw(self, sample_shape: Sequence[int], key: torch.Generator | None = None) -> Tensor:
        p, family = self._parameters(), self._family
        noise = self._noise(sample_shape, p.logits, key, family.noise_in_kernel)
        return self._keep(*family.draw(ops, p, noise))

    def _keep(self, value: Tensor, sample: Tensor | None) -> Tensor:
        value = self._as_value(value)
        if sample is None:
            return value
        if self._family.own_log_prob is not None and sample.requires_grad:
            if eager():
                sample._drawn_from = self._origin()  # type: ignore[attr-defined]
            elif by_operator.usable(sample):
                note_origin(self.logits, self.temperature, sample)
        return keep_relaxed(value, sample, self._family.space)

    def _origin(self) -> tuple[Any, ...]:
        """The parameters, whether they need gradients, and their counts of in-place writes."""
        x, t = self.logits, self.temperature
        return x, t, x.requires_grad, t.requires_grad, version(x), version(t)

    def _own(self, sample: Tensor) -> bool:
        """Whether a sample was drawn from these very parameters, which are unchanged since."""
        if not eager():
            usable = by_operator.usable(sample)
            return usable and from_origin(self.logits, self.temperature, sample)
        drawn: Any = getattr(sample, "_drawn_from", None)
        if drawn is None or drawn[0] is not self.logits or drawn[1] is not self.temperature:
            return False
        return bool(drawn[2:] == self._origin()[2:])

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density of a value, computed from its relaxed sample if the value keeps one.

        Args:
            value: Values of a shape that broadcasts with ``batch_shape + event_shape``.

        Returns:
            Log densities of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        return self._log_prob(value, *self._found(value), self._is_soft(value))

    def _is_soft(self, value: Any) -> bool:
        """Whether an estimator made the value soft. Only discrete distributions have estimators."""
        return False

    def _found(self, value: Any) -> tuple[Any, bool]:
        """The sample behind a value or None, and whether these very parameters made the draw."""
        family = self._family
        sample = get_relaxed(value, family.space) if family.space else None
        if sample is None or family.scores_value:
            return sample, False
        own = family.own_log_prob is not None and self._own(sample)
        own = own and not (value.requires_grad and transformed())
        return sample if own else linked(sample, value, family.event_dim > 0), own

    def _check_value(self, value: Any) -> Tensor:
        """The value as a floating tensor, if its shape fits."""
        value = real(value, self._scorer, "a value", self.logits)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            dtype = compute_dtype(self.logits)
            value = torch.as_tensor(value, dtype=dtype, device=self.logits.device)
        expected = self._batch_shape + self._event_shape
        if value.shape[max(value.dim() - len(expected), 0) :] == expected:
            return value  # the usual case; broadcast_shapes takes ten times as long
        try:
            torch.broadcast_shapes(value.shape, expected)
            fits = value.shape[value.dim() - self._family.event_dim :] == self._event_shape
        except RuntimeError:
            fits = False
        if not fits:
            raise _errors.bad_shape(self._scorer, value.shape, expected)
        return value


class EstimatedFromLogits(Estimated, FromLogits):
    """A discrete distribution from a family, logits, and an estimator unless that is None."""

    def _draw(self, sample_shape: Sequence[int], key: torch.Generator | None = None) -> Tensor:
        estimator, one_hot = self.estimator, self._family.event_dim > 0
        if estimator is None:
            return super()._draw(sample_shape, key)
        p = self._parameters() if estimator.noise_in_kernel else self._for_formulas()
        logits = p.logits
        noise = more = self._noise(sample_shape, logits, key, estimator.noise_in_kernel)
        if estimator.draws:
            shape = (estimator.draws, *noise.shape, *(() if one_hot else (2,)))
            more = gumbel(torch.Size(shape), logits, key)
        value = estimator_base.value(ops, estimator, one_hot, logits, noise, more)
        # A user may write to a draw in place. A binary soft value is the output of torch.exp, whose
        # backward pass needs the output unchanged, so the draw is a copy of it.
        value = value.to(self.logits.dtype, copy=estimator.soft and not one_hot)
        if estimator.soft:
            return keep_relaxed(value, True, "soft")
        for name in estimator.temperatures:
            temperature = getattr(estimator, name)
            if temperature.requires_grad:  # its gradient is 0; autograd.grad fails without one
                value = value + 0.0 * (temperature[..., None] if one_hot else temperature)
        return value
