"""The log of the simplex, as a constraint that the framework can map unconstrained space onto."""

import math
from typing import Never

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import Transform

from relaxed_dists import _errors


def tolerance(dtype: torch.dtype, k: int) -> float:
    """How far rounding may take the sum of k entries of the simplex from one."""
    return 32 * torch.finfo(dtype).eps * (1 + math.log(max(k, 1)))


class _LogSimplex(constraints.Constraint):
    """Vectors whose exponentials sum to one; an entry may be -inf."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector is the log of a point of the simplex, to rounding."""
        return torch.logsumexp(value, -1).abs() <= tolerance(value.dtype, value.shape[-1])


log_simplex = _LogSimplex()


class LogSimplexTransform(Transform):
    """From R^(K-1) to the log of the simplex: u -> log_softmax((u, 0)).

    Its log-determinant is zero: the density of ExpRelaxedOneHotCategorical is the one of the log
    ratios to the last category.
    """

    domain = constraints.real_vector
    codomain = log_simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogSimplexTransform)

    def __hash__(self) -> int:
        return hash(LogSimplexTransform)

    def _call(self, x: Tensor) -> Tensor:
        return torch.log_softmax(torch.nn.functional.pad(x, (0, 1)), -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return y[..., :-1] - y[..., -1:]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Zero, for each vector."""
        return torch.zeros_like(x[..., :1]).squeeze(-1) if x.shape[-1] else x.sum(-1)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """One entry more."""
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """One entry less."""
        return torch.Size((*shape[:-1], shape[-1] - 1))


class _EstimatedOneHot(type(constraints.one_hot)):  # type: ignore[misc]
    """One-hot vectors drawn with a pathwise estimator."""


class _EstimatedBoolean(type(constraints.boolean)):  # type: ignore[misc]
    """Zeros and ones drawn with a pathwise estimator."""


class _SoftOneHot(_EstimatedOneHot):
    """Points of the simplex, drawn from a discrete distribution with a soft estimator."""

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector is one, to rounding."""
        slack = tolerance(value.dtype, value.shape[-1])
        return (value >= 0).all(-1) & (abs(value.sum(-1) - 1) <= slack)


class _SoftBoolean(_EstimatedBoolean):
    """Numbers from 0 to 1, drawn from a Bernoulli distribution with a soft estimator."""

    def check(self, value: Tensor) -> Tensor:
        """Whether each number is one."""
        return (value >= 0) & (value <= 1)


@biject_to.register(_EstimatedOneHot)
@transform_to.register(_EstimatedOneHot)
@biject_to.register(_EstimatedBoolean)
@transform_to.register(_EstimatedBoolean)
@biject_to.register(_SoftOneHot)
@transform_to.register(_SoftOneHot)
@biject_to.register(_SoftBoolean)
@transform_to.register(_SoftBoolean)
def _no_transform(constraint: constraints.Constraint) -> Never:
    raise _errors.no_density()


@biject_to.register(_LogSimplex)
@transform_to.register(_LogSimplex)
def _log_simplex_transform(constraint: _LogSimplex) -> LogSimplexTransform:
    return LogSimplexTransform()
