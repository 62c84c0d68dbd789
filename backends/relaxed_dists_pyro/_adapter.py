"""What all distributions share in torch: parameters and their checks, expand, noise, values."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from pyro.distributions import TorchDistribution
from pyro.infer import ELBO
from torch import Size, Tensor
from torch import distributions as torch_dist
from torch.distributions import constraints
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas, machinery
from relaxed_dists._distributions.elbo import relaxed_site
from relaxed_dists._distributions.missing import Missing

from ._torch.input import real, result_dtype
from ._torch.noise import gumbel, logistic
from ._torch.ops import compute_dtype, ops
from ._torch.state import compiling, holds, known


def _tensor(x: Any, dtype: torch.dtype, device: Any) -> Tensor:
    # torch.jit.trace warns of every as_tensor, of a tensor too.
    if isinstance(x, Tensor):
        return x.to(device=device, dtype=dtype)
    return torch.as_tensor(x, dtype=dtype, device=device)


def _expanded(x: Tensor, shape: Size) -> Tensor:
    """x of a shape: x itself if it has that shape, since a view would miss ``x.data = other``."""
    return x if x.shape == shape else x.expand(shape)


def inspecting() -> bool:
    """Whether Pyro's inspection of a model asks, which compiled code can't tell."""
    return not compiling() and machinery.inspecting("pyro")


class LogitsDistribution(Missing, TorchDistribution):
    """A law with logits, and with a temperature unless it is None."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _rows = True  # whether the last axis of the logits holds categories
    _square = False  # whether a matrix of scores, of their last two axes, is one event
    _static: tuple[str, ...] = ()  # the names of what else the law has, Python's own values
    logits: Tensor
    temperature: Any

    def __init__(
        self, probs: Any, logits: Any, temperature: Any = None, validate_args: bool | None = None
    ) -> None:
        name = type(self).__name__
        _errors.one_of(name, probs, logits)
        validate = type(self)._validate_args if validate_args is None else validate_args
        what, given = ("logits", logits) if probs is None else ("probs", probs)
        given = real(given, name, what, temperature)
        heat = 0.0 if temperature is None else real(temperature, name, "temperature", given)
        dtype = result_dtype(given, heat)
        device = getattr(given, "device", None) or getattr(heat, "device", None)
        given = _tensor(given, dtype, device)
        if self._rows and 0 in (given.dim(), *given.shape[-1:]):
            raise _errors.no_categories(name, what, given.shape)
        if probs is None and ops.plain(given):
            pass  # nothing to check, or to tame
        elif validate and known(given) and given.numel():
            (self._check_logits if probs is None else self._check_probs)(given)
        else:
            given = formulas.tame(ops, given, self._rows)
        if probs is not None:
            log = formulas.log_probs if self._rows else formulas.logit
            given = log(ops, given.to(compute_dtype(given))).to(dtype)
        event = max(given.dim() - self._rows - self._square, 0)
        batch_shape = given.shape[:event]
        if temperature is not None:
            self.temperature = self._checked_temperature(heat, given, validate)
            batch_shape = self._joint_shape(self.temperature.shape, batch_shape)
        event_shape = given.shape[event:]
        self.logits = _expanded(given, batch_shape + event_shape)
        # torch's own checks would build probs, a softmax of all the logits, to look at it.
        TorchDistribution.__init__(self, batch_shape, event_shape, validate_args=False)
        self._validate_args = validate

    def _theirs(self) -> Any:
        """Pyro's own distribution in place of this one, for funsor; else an error."""
        raise _errors.no_funsor(type(self).__name__, "pyro")

    def _checked_temperature(self, heat: Tensor | float, like: Tensor, validate: bool) -> Tensor:
        temperature = _tensor(heat, compute_dtype(like), like.device)
        if not validate or not known(temperature):
            return formulas.warm(ops, temperature)
        low, high = formulas.COLDEST, formulas.HOTTEST
        if not temperature.dim():  # a number, as it nearly always is: four operations less
            fine = low <= temperature.item() <= high
        else:
            fine = bool(((temperature >= low) & (temperature <= high)).all())
        if not fine:
            raise _errors.bad_temperature(type(self).__name__, heat)
        return temperature

    def _check_logits(self, logits: Tensor) -> None:
        # One reduction reads them once: NaN and +inf pass through amax; a row of -inf shows as one.
        top = logits.amax(-1) if self._rows else logits
        if not holds((abs(top) if self._rows else top) < formulas.HUGE):
            raise _errors.bad_logits(type(self).__name__, logits, self._rows)

    def _check_probs(self, probs: Tensor) -> None:
        if self._rows:
            total = probs.sum(-1, dtype=compute_dtype(probs))
            fine = (probs.amin(-1) >= 0) & (total > 0) & (total < torch.inf)
        else:
            fine = (probs >= 0) & (probs <= 1)
        if not holds(fine):
            raise _errors.bad_probs(type(self).__name__, probs, self._rows)

    def _joint_shape(self, temperature: Size, batch_shape: Size) -> Size:
        if not temperature:
            return batch_shape
        try:
            return torch.broadcast_shapes(temperature, batch_shape)
        except RuntimeError as error:
            name = type(self).__name__
            raise _errors.bad_temperature_shape(name, temperature, batch_shape) from error

    @property
    def probs(self) -> Tensor:
        """The probabilities, normalised."""
        if not self._rows:
            return torch.sigmoid(self.logits)
        logits = self.logits.to(compute_dtype(self.logits))
        return formulas.softmax(ops, logits).to(self.logits.dtype)

    @classmethod
    def infer_shapes(cls, *args: Any, **kwargs: Any) -> tuple[Size, Size]:
        """The batch and event shapes of a distribution made from arguments of given shapes.

        Args:
            args: Shapes of the arguments, in the order of the signature.
            kwargs: Shapes of arguments by name. Arguments that are not arrays need none.
        """
        batch, event = machinery.infer_shapes(cls, cls._rows + cls._square, args, kwargs)
        return Size(batch), Size(event)

    @property
    def param_shape(self) -> Size:
        """The shape of logits and probs."""
        return self.logits.shape

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same law with its parameters expanded to a batch shape, without a copy."""
        new: Self = self._get_checked_instance(type(self), _instance)
        for name in self.__dict__.keys() & {"temperature", "estimator", *self._static}:
            setattr(new, name, getattr(self, name))
        try:
            new.logits = _expanded(self.logits, Size(batch_shape) + self.event_shape)
        except RuntimeError as error:
            name = type(self).__name__
            raise _errors.cannot_expand(name, self.batch_shape, batch_shape) from error
        TorchDistribution.__init__(new, Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        if "has_rsample" in self.__dict__:  # set by has_rsample_
            new.has_rsample = self.has_rsample
        return new

    def _twin(self, cls: Any) -> Any:
        """The discrete law of a class with the same logits, which are checked already."""
        new = cls.__new__(cls)
        new.logits, new.estimator = self.logits, None
        for name in cls._static:
            setattr(new, name, getattr(self, name))
        TorchDistribution.__init__(new, self.batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _parameters(self) -> tuple[Tensor, Tensor]:
        """Logits and temperature in the dtype to compute in, which is that of densities."""
        dtype = compute_dtype(self.logits)  # which a parameter's may change, by module.double()
        return self.logits.to(dtype), self.temperature.to(dtype)

    def _dtype(self) -> torch.dtype:
        """The dtype of values."""
        return self.logits.dtype

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

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """A draw with a gradient, if there is one."""
        raise _errors.missing(type(self).__name__, "rsample")

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw without a gradient. Args and Returns as those of rsample."""
        with torch.no_grad():
            return self.rsample(Size(sample_shape))

    def _check_value(self, value: Any) -> Tensor:
        """The value as a floating tensor, if its shape fits."""
        value = real(value, f"{type(self).__name__}.log_prob", "a value", self.logits)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            dtype = compute_dtype(self.logits)
            value = torch.as_tensor(value, dtype=dtype, device=self.logits.device)
        expected = self.batch_shape + self.event_shape
        if value.shape[max(value.dim() - len(expected), 0) :] == expected:
            return value  # as nearly always; broadcast_shapes takes ten times as long
        try:
            torch.broadcast_shapes(value.shape, expected)
            fits = value.shape[value.dim() - self.event_dim :] == self.event_shape
        except RuntimeError:
            fits = False
        if not fits:
            raise _errors.bad_shape(type(self).__name__, value.shape, expected)
        return value

    def _no_density(self, value: Tensor, error: Exception) -> Tensor:
        """Raise the error; in render_model and the like, a number made from all it depends on."""
        if not inspecting():
            raise error
        event = tuple(range(-self.event_dim, 0))
        total = value.sum(event) + self.logits.sum(event)
        return total + getattr(self, "temperature", 0.0)

    def _refuse(self, value: Tensor, fine: Tensor, support: str, remedy: str) -> None:
        if not holds(fine):
            raise _errors.off_support(type(self).__name__, value, support, remedy)


machinery.tell_funsor(LogitsDistribution)  # which Pyro has loaded, if it is installed


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

    def _refuse_rounded(self, rounded: Any, value: Tensor) -> None:
        """Refuse a value that has lost its sample, where the formula says that it is rounded."""
        if self._validate_args:
            lost = rounded(ops, self.logits, value, float(torch.finfo(value.dtype).tiny))
            if bool(lost.any()) if known(lost) else in_relaxed_elbo():
                raise _errors.rounded(type(self).__name__, seen=known(lost))


THEIRS = (
    torch_dist.RelaxedOneHotCategorical,
    torch_dist.RelaxedBernoulli,
    ExpRelaxedCategorical,
    LogitRelaxedBernoulli,
)


def in_relaxed_elbo() -> bool:
    """Whether an ELBO scores a latent value that a relaxed distribution draws in the guide."""
    if compiling():
        return False
    return relaxed_site(ELBO, (RelaxedDistribution, *THEIRS)) is not None
