"""What all distributions share in torch: parameters and their checks, expand, noise, values."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from relaxed_dists import _errors, _formulas

from ._ops import compute_dtype, gumbel, logistic, ops


def is_known(condition: Tensor) -> bool:
    """Whether Python can look at a condition: not under compile, vmap or a trace."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._functorch.is_batchedtensor(condition)
        or torch._C._get_tracing_state()
    )


def holds(condition: Tensor) -> bool:
    """Whether all of a condition is true; true where it can't be known."""
    return not is_known(condition) or bool(condition.all())


def as_tensor(x: Any, like: Any = None) -> Tensor:
    """x as a floating tensor, of like's dtype and device where x is no tensor itself."""
    if isinstance(x, Tensor):
        return x if x.is_floating_point() else x.to(torch.get_default_dtype())
    if isinstance(like, Tensor) and like.is_floating_point():
        # A half would round a number such as 0.1 at its third digit.
        dtype = compute_dtype(like) if isinstance(x, int | float) else like.dtype
        return torch.as_tensor(x, dtype=dtype, device=like.device)
    return torch.as_tensor(x, dtype=torch.get_default_dtype())


class LogitsDistribution(TorchDistribution):
    """A law with logits, and with a temperature unless it is None."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _rows = True  # whether the last axis of the logits holds categories
    logits: Tensor
    temperature: Any

    def __init__(
        self, probs: Any, logits: Any, temperature: Any = None, validate_args: bool | None = None
    ) -> None:
        name = type(self).__name__
        _errors.one_of(name, probs, logits)
        validate = type(self)._validate_args if validate_args is None else validate_args
        given = as_tensor(logits if probs is None else probs, temperature)
        if self._rows and 0 in (given.dim(), *given.shape[-1:]):
            raise _errors.no_categories(name, "logits" if probs is None else "probs", given.shape)
        if validate and given.numel():
            (self._check_logits if probs is None else self._check_probs)(given)
        if probs is not None and self._rows:
            given = _formulas.log_probs(ops, given)
        elif probs is not None:
            given = _formulas.logit(ops, given)
        batch_shape = given.shape[: given.dim() - self._rows]
        if temperature is not None:
            self.temperature = as_tensor(temperature, given)
            if validate and not holds((self.temperature > 0) & (self.temperature < torch.inf)):
                raise _errors.bad_temperature(name, temperature)
            batch_shape = self._joint_shape(self.temperature.shape, batch_shape)
        event_shape = given.shape[given.dim() - self._rows :]
        self.logits = given.expand(batch_shape + event_shape)
        # torch's own checks would build probs, a softmax of all the logits, to look at it.
        super().__init__(batch_shape, event_shape, validate_args=False)
        self._validate_args = validate

    def _check_logits(self, logits: Tensor) -> None:
        # One reduction reads them once: NaN and +inf pass through amax; a row of -inf shows as one.
        top = logits.amax(-1) if self._rows else logits
        if not holds(torch.isfinite(top) if self._rows else top < torch.inf):
            raise _errors.bad_logits(type(self).__name__, logits, self._rows)

    def _check_probs(self, probs: Tensor) -> None:
        if self._rows:
            total = probs.sum(-1)
            fine = (probs.amin(-1) >= 0) & (total > 0) & (total < torch.inf)
        else:
            fine = (probs >= 0) & (probs <= 1)
        if not holds(fine):
            raise _errors.bad_probs(type(self).__name__, probs, self._rows)

    def _joint_shape(self, temperature: Size, batch_shape: Size) -> Size:
        try:
            return torch.broadcast_shapes(temperature, batch_shape)
        except RuntimeError as error:
            name = type(self).__name__
            raise _errors.bad_temperature_shape(name, temperature, batch_shape) from error

    @property
    def probs(self) -> Tensor:
        """The probabilities, normalised."""
        return torch.softmax(self.logits, -1) if self._rows else torch.sigmoid(self.logits)

    @property
    def param_shape(self) -> Size:
        """The shape of logits and probs."""
        return self.logits.shape

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same law with its parameters expanded to a batch shape, without a copy."""
        new: Self = self._get_checked_instance(type(self), _instance)
        for name in self.__dict__.keys() & {"temperature", "estimator"}:
            setattr(new, name, getattr(self, name))
        new.logits = self.logits.expand(Size(batch_shape) + self.event_shape)
        TorchDistribution.__init__(new, Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _twin(self, cls: Any) -> Any:
        """The discrete law of a class with the same logits, which are checked already."""
        new = cls.__new__(cls)
        new.logits, new.estimator = self.logits, None
        TorchDistribution.__init__(new, self.batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _parameters(self) -> tuple[Tensor, Tensor]:
        """Logits and temperature in the dtype to compute in, which is that of densities."""
        dtype = torch.promote_types(torch.float32, self._dtype())
        return self.logits.to(dtype), self.temperature.to(dtype)

    def _dtype(self) -> torch.dtype:
        """The dtype of values."""
        if "temperature" not in self.__dict__ or self.temperature.dim() == 0:
            return self.logits.dtype
        return torch.promote_types(self.logits.dtype, self.temperature.dtype)

    def _as_value(self, x: Tensor) -> Tensor:
        """x in the dtype of values, kept finite where it is: float16 ends at 65,504."""
        dtype = self._dtype()
        if dtype.itemsize < x.dtype.itemsize:
            top = torch.finfo(dtype).max
            x = torch.where(x.abs() < torch.inf, x.clip(-top, top), x)
        return x.to(dtype)

    def _noise(
        self, sample_shape: Sequence[int], like: Tensor, key: torch.Generator | None = None
    ) -> Tensor:
        draw = gumbel if self._rows else logistic
        return draw(self._extended_shape(Size(sample_shape)), like, key)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw without a gradient. Args and Returns as those of rsample."""
        with torch.no_grad():
            return self.rsample(Size(sample_shape))

    def _check_value(self, value: Any) -> Tensor:
        """The value as a tensor, if its shape fits."""
        value = as_tensor(value, self.logits)
        expected = self.batch_shape + self.event_shape
        try:
            torch.broadcast_shapes(value.shape, expected)
            fits = value.shape[value.dim() - self.event_dim :] == self.event_shape
        except RuntimeError:
            fits = False
        if not fits:
            raise _errors.bad_shape(type(self).__name__, value.shape, expected)
        return value

    def _refuse(self, value: Tensor, fine: Tensor, support: str, remedy: str) -> None:
        if not holds(fine):
            raise _errors.off_support(type(self).__name__, value, support, remedy)


class RelaxedDistribution(LogitsDistribution):
    """A law with a temperature, whose draws carry a gradient."""

    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if temperature is None:
            raise _errors.bad_temperature(type(self).__name__, temperature)
        super().__init__(probs, logits, temperature, validate_args)
