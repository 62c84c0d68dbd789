"""The base class of Pyro distributions: parameters and checks, expand, draws, densities.

A family is the framework-free object that has the formulas of a distribution. The sample behind a
value is the relaxed sample that a draw keeps for its log_prob, as an attribute of the value.
"""

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
from relaxed_dists._distributions.from_family import FromFamily
from relaxed_dists_torch import quadrature  # noqa: F401 (it registers its kernels with the operations)
from relaxed_dists_torch.carrier import get_relaxed, keep_relaxed, version
from relaxed_dists_torch.input import real, result_dtype
from relaxed_dists_torch.kernels import all_finite
from relaxed_dists_torch.noise import gumbel, logistic
from relaxed_dists_torch.ops import compute_dtype, ops
from relaxed_dists_torch.softmax import linked
from relaxed_dists_torch.state import compiling, eager, holds, known, numbers, transformed


def _tensor(x: Any, dtype: torch.dtype, device: Any) -> Tensor:
    # Under torch.jit.trace each call of as_tensor causes a warning, even a call with a tensor.
    if isinstance(x, Tensor):
        return x.to(device=device, dtype=dtype)
    return torch.as_tensor(x, dtype=dtype, device=device)


def _expanded(x: Tensor, shape: Size) -> Tensor:
    """x expanded to a shape.

    If x already has the shape, x itself is returned: a view would not notice ``x.data = y``.
    """
    return x if x.shape == shape else x.expand(shape)


class _Framework:
    """The functions of torch and Pyro that the base class FromFamily calls."""

    ops = ops
    known, holds = staticmethod(known), staticmethod(holds)
    compute_dtype = staticmethod(compute_dtype)
    broadcast_shapes = staticmethod(torch.broadcast_shapes)

    @staticmethod
    def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    @staticmethod
    def limits(dtype: torch.dtype) -> tuple[float, float, float]:
        finfo = torch.finfo(dtype)
        return finfo.tiny, finfo.eps, finfo.max

    @staticmethod
    def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
        return x.expand(shape)

    @staticmethod
    def inspecting() -> bool:
        # An inspection is found by walking up Python's stack, which compiled code can't do.
        return not compiling() and machinery.inspecting("pyro")

    @staticmethod
    def relaxed_site(ours: bool) -> tuple[str, Any, bool] | None:
        relaxed = (RelaxedDistribution,) if ours else (RelaxedDistribution, *TORCH_RELAXED)
        return None if compiling() else relaxed_site(ELBO, relaxed)

    @staticmethod
    def differentiable(value: Tensor) -> bool:
        return value.requires_grad


class LogitsDistribution(FromFamily, TorchDistribution):
    """A distribution with logits; also with a temperature, unless ``temperature`` is None."""

    arg_constraints: Any = {"probs": constraints.simplex, "logits": constraints.real_vector}
    logits: Tensor
    temperature: Any = None
    estimator: Any

    _framework = _Framework()

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        name, event_dim = type(self).__name__, self._family.event_dim
        if temperature is None and isinstance(self, RelaxedDistribution):
            raise _errors.bad_temperature(name, temperature)
        _errors.one_of(name, probs, logits)
        validate = type(self)._validate_args if validate_args is None else validate_args
        what, given = ("logits", logits) if probs is None else ("probs", probs)
        given = real(given, name, what, temperature)
        raw = 0.0 if temperature is None else real(temperature, name, "temperature", given)
        dtype = result_dtype(given, raw)
        device = getattr(given, "device", None) or getattr(raw, "device", None)
        given = _tensor(given, dtype, device)
        if event_dim and 0 in (given.dim(), *given.shape[-1:]):
            raise _errors.no_categories(name, what, given.shape)
        if probs is None and all_finite(given):
            pass  # finite logits are valid, and sanitize_logits would not change them
        elif validate and known(given) and given.numel():
            (self._check_logits if probs is None else self._check_probs)(given)
        else:
            given = formulas.sanitize_logits(ops, given, event_dim > 0)
        if probs is not None:
            log = formulas.log_probs if event_dim else formulas.logit
            given = log(ops, given.to(compute_dtype(given))).to(dtype)
        split = max(given.dim() - event_dim, 0)
        batch_shape, event_shape = given.shape[:split], given.shape[split:]
        if temperature is not None:
            self.temperature = self._checked_temperature(raw, given, validate)
            batch_shape = self._joint_shape(self.temperature.shape, batch_shape)
        self.logits = _expanded(given, batch_shape + event_shape)
        # validate_args=False: torch's own validation would compute probs, a softmax of all logits.
        TorchDistribution.__init__(self, batch_shape, event_shape, validate_args=False)
        self._validate_args = validate
        if self._family.checks_logits:
            family = self._family = self._family.checked(name, event_shape)
            if validate and known(self.logits) and not family.possible(numbers(self.logits)):
                raise family.impossible(name, self.logits)

    def _for_funsor(self) -> Any:
        """The Pyro distribution that funsor converts instead of this one; here an error."""
        raise _errors.no_funsor(type(self).__name__, "pyro")

    def _checked_temperature(self, given: Any, like: Tensor, validate: bool) -> Tensor:
        given = real(given, type(self).__name__, "temperature", like)
        temperature = _tensor(given, compute_dtype(like), like.device)
        if not validate or not known(temperature):
            return formulas.clamp_temperature(ops, temperature)
        low, high = formulas.COLDEST, formulas.HOTTEST
        if not temperature.dim():  # a single number, the usual case: four operations fewer
            fine = low <= temperature.item() <= high
        else:
            fine = bool(((temperature >= low) & (temperature <= high)).all())
        if not fine:
            raise _errors.bad_temperature(type(self).__name__, given)
        return temperature

    @classmethod
    def infer_shapes(cls, *args: Any, **kwargs: Any) -> tuple[Size, Size]:
        """The batch and event shapes of a distribution made from arguments of given shapes.

        Args:
            args: Shapes of the arguments, in the order of the signature.
            kwargs: Shapes of arguments by name. Arguments that are not arrays need no shape.
        """
        batch, event = machinery.infer_shapes(cls, cls._family.event_dim, args, kwargs)
        return Size(batch), Size(event)

    @property
    def param_shape(self) -> Size:
        """The shape of logits and probs."""
        return self.logits.shape

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same distribution with its parameters expanded to a batch shape, without a copy."""
        new: Self = self._get_checked_instance(type(self), _instance)
        for name in self.__dict__.keys() & {"temperature", "estimator", "_family", "has_rsample"}:
            new.__dict__[name] = self.__dict__[name]
        try:
            new.logits = _expanded(self.logits, Size(batch_shape) + self.event_shape)
        except RuntimeError as error:
            name = type(self).__name__
            raise _errors.cannot_expand(name, self.batch_shape, batch_shape) from error
        TorchDistribution.__init__(new, Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _as_discrete(self, cls: Any, family: Any = None) -> Any:
        """A distribution of a discrete class, with the logits of the discrete counterpart."""
        new = cls.__new__(cls)
        logits = self._family.discrete_logits(ops, self._parameters())
        new.logits, new.estimator = logits.to(self.logits.dtype), None
        new._family = cls._family if family is None else family
        TorchDistribution.__init__(new, self.batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _noise(
        self, sample_shape: Sequence[int], like: Tensor, key: torch.Generator | None = None
    ) -> Tensor:
        draw = gumbel if self._family.event_dim else logistic
        return draw(self._extended_shape(Size(sample_shape)), like, key)

    def _draw(self, sample_shape: Sequence[int]) -> Tensor:
        p = self._parameters()
        return self._keep(*self._family.draw(ops, p, self._noise(sample_shape, p.logits)))

    def _keep(self, value: Tensor, sample: Tensor | None) -> Tensor:
        value = self._as_value(value)
        if sample is None:
            return value
        if self._family.own_log_prob and sample.requires_grad and eager():
            sample._drawn_from = self._versions()  # type: ignore[attr-defined]
        return keep_relaxed(value, sample, self._family.space)

    def _versions(self) -> list[tuple[Tensor, bool, int]]:
        """The parameters with torch's version counters, which each in-place write increases."""
        return [(x, x.requires_grad, version(x)) for x in (self.logits, self.temperature)]

    def _own(self, sample: Tensor) -> bool:
        """Whether a sample was drawn from these very parameter tensors, unchanged since."""
        drawn = getattr(sample, "_drawn_from", None)
        return drawn is not None and all(
            x is y and note == now
            for (x, *note), (y, *now) in zip(drawn, self._versions(), strict=True)
        )

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with a gradient to the parameters.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``.
        """
        if not self.has_rsample:
            raise _errors.missing(type(self).__name__, "rsample")
        return self._draw(sample_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw without a gradient. Args and Returns are those of rsample."""
        with torch.no_grad():
            return self._draw(sample_shape)

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
        """The sample behind a value, and whether it was drawn from these very parameters."""
        family = self._family
        sample = get_relaxed(value, family.space) if family.space else None
        if sample is None or family.scores_value:
            return sample, False
        own = family.own_log_prob is not None and eager() and self._own(sample)
        own = own and not (value.requires_grad and transformed())
        return linked(sample, value, family.event_dim > 0), own

    def _check_value(self, value: Any) -> Tensor:
        """The value as a floating tensor, if its shape fits."""
        value = real(value, f"{type(self).__name__}.log_prob", "a value", self.logits)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            dtype = compute_dtype(self.logits)
            value = torch.as_tensor(value, dtype=dtype, device=self.logits.device)
        expected = self.batch_shape + self.event_shape
        if value.shape[max(value.dim() - len(expected), 0) :] == expected:
            return value  # the usual case; broadcast_shapes takes ten times as long
        try:
            torch.broadcast_shapes(value.shape, expected)
            fits = value.shape[value.dim() - self.event_dim :] == self.event_shape
        except RuntimeError:
            fits = False
        if not fits:
            raise _errors.bad_shape(type(self).__name__, value.shape, expected)
        return value

    def cdf(self, value: Tensor) -> Tensor:
        """The probability that a draw is at most the value.

        Args:
            value: Numbers of a shape that broadcasts with the batch shape.

        Returns:
            Probabilities of shape ``sample_shape + batch_shape``.
        """
        return self._cdf(value, self._found(value)[0])


machinery.tell_funsor(LogitsDistribution)  # once is enough: Pyro loads funsor if it is installed


class RelaxedDistribution(LogitsDistribution):
    """A distribution with a temperature, whose draws carry a gradient."""

    arg_constraints = {"temperature": constraints.positive, **LogitsDistribution.arg_constraints}
    has_rsample = True


# torch's own relaxed distributions, which are the base classes of Pyro's relaxed distributions.
TORCH_RELAXED = (
    torch_dist.RelaxedOneHotCategorical,
    torch_dist.RelaxedBernoulli,
    ExpRelaxedCategorical,
    LogitRelaxedBernoulli,
)
