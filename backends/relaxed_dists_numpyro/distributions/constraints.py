"""Constraints to the values of a family, and to logs of points of the simplex, with a transform.

A family is an object, free of any framework, that has the formulas of a distribution and knows
which values are valid.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import IdentityTransform, ParameterFreeTransform

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas, machinery
from relaxed_dists._distributions.family import Family
from relaxed_dists_jax.ops import ops


def no_transform(error: Exception) -> IdentityTransform:
    """Raise the error; but if NumPyro inspects a model, return a transform that it won't use."""
    if machinery.inspecting("numpyro"):
        return IdentityTransform()
    raise error


def _rounding(x: Any, event_dim: int = 1) -> float:
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    eps = float(jnp.finfo(x.dtype).eps) if floating else 0.0
    return formulas.rounding(eps, x.shape[x.ndim - event_dim :])


class Values(constraints.ParameterFreeConstraint):
    """The constraint to a family's valid values, with no transform from unconstrained numbers.

    Args:
        family: The family.
        soft: True if an estimator makes soft values, False if it makes hard ones; None without an
            estimator.
    """

    def __init__(self, family: Family, soft: bool | None = None) -> None:
        self.family, self.soft = family, soft

    @property
    def event_dim(self) -> int:
        """The number of dimensions of an event."""
        return self.family.event_dim

    @property
    def is_discrete(self) -> bool:
        """Whether the values are discrete; False with an estimator, for a better error message.

        If this is False, NumPyro's HMC and autoguides look for a transform to unconstrained space.
        That raises this library's error, which says more than NumPyro's error about discrete sites.
        """
        return self.family.is_discrete and self.soft is None

    def __repr__(self) -> str:
        kind = {None: "", False: "Estimated", True: "Soft"}[self.soft]
        return kind + self.family.support_name

    def __call__(self, x: Array) -> Array:
        """Whether each event is a valid value, up to rounding."""
        return self.family.valid(ops, x, _rounding(x, self.event_dim), bool(self.soft))

    def feasible_like(self, prototype: Array) -> Array:
        """A valid value, repeated for each event of the prototype."""
        shape = prototype.shape
        event = self.family.feasible(shape[len(shape) - self.event_dim :])
        return jnp.broadcast_to(jnp.asarray(event, prototype.dtype), shape)

    def tree_flatten(self) -> Any:
        """Return no leaves, and the fields as static data."""
        return (), ((), {"family": self.family, "soft": self.soft})

    def eq(self, other: object, static: bool = False) -> bool:
        """Whether the other constraint has the same values."""
        return isinstance(other, Values) and repr(other) == repr(self)

    def __eq__(self, other: object) -> bool:  # NumPyro's class has it from 0.20 on
        return self.eq(other)


@biject_to.register(Values)
def _no_transform_to_values(constraint: Values) -> IdentityTransform:
    family, soft = constraint.family, constraint.soft
    return no_transform(family.no_transform() if soft is None else _errors.no_density())


class _LogSimplex(constraints._SingletonConstraint):
    """Vectors whose exponentials sum to one; an entry may be -inf."""

    event_dim = 1

    def __call__(self, x: Array) -> Array:
        """Whether each vector is the log of a point of the simplex, up to rounding."""
        return jnp.abs(logsumexp(x, -1)) <= _rounding(x)

    def feasible_like(self, prototype: Array) -> Array:
        """The log of the simplex's centre."""
        return jnp.full_like(prototype, -math.log(prototype.shape[-1]))


log_simplex = _LogSimplex()


class LogSimplexTransform(ParameterFreeTransform):
    """The transform from R^(K-1) to the log of the simplex: u -> log_softmax((u, 0)).

    The transform's log-determinant is zero, since the density of ExpRelaxedOneHotCategorical is
    that of u itself, the log ratios to the last category.
    """

    domain = constraints.real_vector
    codomain = log_simplex

    def __call__(self, x: Array) -> Array:
        """Map unconstrained vectors of K - 1 entries to logs of points of the simplex."""
        padded = jnp.concatenate([x, jnp.zeros_like(x, shape=(*x.shape[:-1], 1))], -1)
        return jax.nn.log_softmax(padded, -1)

    def _inverse(self, y: Array) -> Array:
        return y[..., :-1] - y[..., -1:]

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Any = None) -> Array:
        """The log-determinant, which is zero for each vector."""
        return jnp.zeros_like(y[..., 0])

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape, with the last dimension one larger."""
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape, with the last dimension one smaller."""
        return (*shape[:-1], shape[-1] - 1)


@biject_to.register(_LogSimplex)
def _log_simplex_transform(constraint: _LogSimplex) -> LogSimplexTransform:
    return LogSimplexTransform()
