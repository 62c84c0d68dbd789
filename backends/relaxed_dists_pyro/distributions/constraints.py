"""Constraints to the values of a family, and to logs of points of the simplex, with a transform.

A family is an object, free of any framework, that has the formulas of a distribution and knows
which values are valid.
"""

from typing import NoReturn

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import Transform

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.family import Family
from relaxed_dists_torch.ops import ops


class Values(constraints.Constraint):
    """The constraint to a family's valid values, with no transform from unconstrained numbers.

    Args:
        family: The family.
        soft: True if an estimator makes soft values, False if it makes hard ones; None without an
            estimator.
    """

    def __init__(self, family: Family, soft: bool | None = None) -> None:
        self.family, self.soft = family, soft

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        """The number of dimensions of an event."""
        return self.family.event_dim

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """Whether the values are discrete."""
        return self.family.is_discrete

    def __repr__(self) -> str:
        kind = {None: "", False: "Estimated", True: "Soft"}[self.soft]
        return kind + self.family.support_name

    def check(self, value: Tensor) -> Tensor:
        """Whether each event is a valid value, up to rounding."""
        eps = torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
        slack = formulas.rounding(eps, value.shape[value.dim() - self.event_dim :])
        return self.family.valid(ops, value, slack, bool(self.soft))


@biject_to.register(Values)
@transform_to.register(Values)
def _no_transform_to_values(constraint: Values) -> NoReturn:
    raise constraint.family.no_transform() if constraint.soft is None else _errors.no_density()


class _LogSimplex(constraints.Constraint):
    """Vectors whose exponentials sum to one; an entry may be -inf."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector is the log of a point of the simplex, up to rounding."""
        return torch.logsumexp(value, -1).abs() <= formulas.rounding(
            torch.finfo(value.dtype).eps, value.shape
        )


log_simplex = _LogSimplex()


class LogSimplexTransform(Transform):
    """The transform from R^(K-1) to the log of the simplex: u -> log_softmax((u, 0)).

    The transform's log-determinant is zero, since the density of ExpRelaxedOneHotCategorical is
    that of u itself, the log ratios to the last category.
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
        """The log-determinant, which is zero for each vector."""
        return torch.zeros_like(x[..., :1]).squeeze(-1) if x.shape[-1] else x.sum(-1)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """The shape, with the last dimension one larger."""
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """The shape, with the last dimension one smaller."""
        return torch.Size((*shape[:-1], shape[-1] - 1))


@biject_to.register(_LogSimplex)
@transform_to.register(_LogSimplex)
def _log_simplex_transform(constraint: _LogSimplex) -> LogSimplexTransform:
    return LogSimplexTransform()
