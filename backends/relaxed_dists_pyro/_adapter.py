"""The base classes of this library's distributions, with the methods that Pyro calls."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from pyro.distributions import TorchDistribution
from pyro.infer import ELBO
from torch import Size, Tensor
from torch import distributions as torch_dist
from torch.distributions import constraints
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from relaxed_dists import _errors
from relaxed_dists._distributions import machinery
from relaxed_dists._distributions.elbo import relaxed_site
from relaxed_dists_torch import quadrature, subset  # noqa: F401 (they register their kernels with the operations)
from relaxed_dists_torch.from_logits import FromLogits, Torch, checked_size, expanded
from relaxed_dists_torch.ops import ops
from relaxed_dists_torch.state import compiling

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


class _Framework(Torch):
    """The functions of torch and Pyro that FromFamily, a base class of FromLogits, calls."""

    @staticmethod
    def inspecting() -> bool:
        # Only the Python stack shows whether pyro.infer.inspect runs the model, and compiled code
        # can't walk the stack.
        return not compiling() and machinery.inspecting("pyro")

    @staticmethod
    def relaxed_site(ours: bool) -> tuple[str, Any, bool] | None:
        relaxed = (RelaxedDistribution,) if ours else (RelaxedDistribution, *TORCH_RELAXED)
        return None if compiling() else relaxed_site(ELBO, relaxed)


class LogitsDistribution(FromLogits, TorchDistribution):
    """A distribution with logits; also with a temperature, unless ``temperature`` is None."""

    arg_constraints: Any = {"probs": constraints.simplex, "logits": constraints.real_vector}
    estimator: Any
    _framework = _Framework()

    def _for_funsor(self) -> Any:
        """The Pyro distribution that funsor converts instead; by default an error."""
        raise _errors.no_funsor(type(self).__name__, "pyro")

    @classmethod
    def infer_shapes(cls, *args: Any, **kwargs: Any) -> tuple[Size, Size]:
        """The batch and event shapes of a distribution made from arguments of given shapes.

        Args:
            args: Shapes of the arguments, in the order of the signature.
            kwargs: Shapes of those arguments that are arrays, by name.
        """
        batch, event = machinery.infer_shapes(cls, cls._family.event_dim, args, kwargs)
        return Size(batch), Size(event)

    @property
    def param_shape(self) -> Size:
        """The shape of logits and probs."""
        return self.logits.shape

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Self":
        """The same distribution with its parameters expanded to a batch shape, without a copy."""
        batch_shape = checked_size(f"{self._name}.expand", batch_shape)
        new: Self = self._get_checked_instance(type(self), _instance)
        for name in self.__dict__.keys() & {"temperature", "estimator", "_family", "has_rsample"}:
            new.__dict__[name] = self.__dict__[name]
        try:
            new.logits = expanded(self.logits, batch_shape + self.event_shape)
        except RuntimeError as error:
            name = type(self).__name__
            raise _errors.cannot_expand(name, self.batch_shape, batch_shape) from error
        TorchDistribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _as_discrete(self, cls: Any, family: Any = None) -> Any:
        """A ``cls`` with the logits of this distribution's discrete counterpart."""
        new = cls.__new__(cls)
        logits = self._family.discrete_logits(ops, self._parameters())
        new.logits, new.estimator = logits.to(self.logits.dtype), None
        new._family = cls._family if family is None else family
        TorchDistribution.__init__(new, self.batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with a gradient to the parameters.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Values of shape ``sample_shape + batch_shape + event_shape``.
        """
        if not self.has_rsample:
            raise _errors.missing(self._name, "rsample", self._family)
        return self._draw(sample_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw without a gradient. Args and Returns are those of rsample."""
        with torch.no_grad():
            return self._draw(sample_shape)

    def cdf(self, value: Tensor) -> Tensor:
        """The probability that a draw is at most the value.

        Args:
            value: Numbers of a shape that broadcasts with the batch shape.

        Returns:
            Probabilities of shape ``sample_shape + batch_shape``.
        """
        return self._cdf(value, self._found(value)[0])


# Once is enough, since Pyro imports funsor if funsor is installed.
machinery.tell_funsor(LogitsDistribution)


class RelaxedDistribution(LogitsDistribution):
    """A distribution with a temperature, whose draws carry a gradient."""

    arg_constraints = {"temperature": constraints.positive, **LogitsDistribution.arg_constraints}
    has_rsample = True
    _has_temperature = True


# torch's own relaxed distributions, which are the base classes of Pyro's relaxed distributions.
TORCH_RELAXED = (
    torch_dist.RelaxedOneHotCategorical,
    torch_dist.RelaxedBernoulli,
    ExpRelaxedCategorical,
    LogitRelaxedBernoulli,
)
