"""The log of the simplex, as a constraint that the framework can map unconstrained space onto."""

import math
from typing import Any, Never

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import IdentityTransform, ParameterFreeTransform

from relaxed_dists import _errors
from relaxed_dists._distributions import machinery


def tolerance(dtype: Any, k: int) -> float:
    """How far rounding may take the sum of k entries of the simplex from one."""
    return 32 * float(jnp.finfo(dtype).eps) * (1 + math.log(max(k, 1)))


def no_transform(error: Exception) -> IdentityTransform:
    """An error, or any transform where a model is only drawn."""
    if machinery.inspecting("numpyro"):
        return IdentityTransform()
    raise error


class _LogSimplex(constraints._SingletonConstraint):
    """Vectors whose exponentials sum to one; an entry may be -inf."""

    event_dim = 1

    def __call__(self, x: Array) -> Array:
        """Whether each vector is the log of a point of the simplex, to rounding."""
        return jnp.abs(logsumexp(x, -1)) <= tolerance(x.dtype, x.shape[-1])

    def feasible_like(self, prototype: Array) -> Array:
        """The log of the simplex's centre."""
        return jnp.full_like(prototype, -math.log(prototype.shape[-1]))


log_simplex = _LogSimplex()


class _OneHot(constraints._SingletonConstraint):
    """Vectors of zeros and a single one, which NumPyro has no constraint for."""

    event_dim = 1
    is_discrete = True

    def __call__(self, x: Array) -> Array:
        """Whether each vector is one-hot."""
        return ((x == 0) | (x == 1)).all(-1) & (x.sum(-1) == 1)

    def feasible_like(self, prototype: Array) -> Array:
        """The first category."""
        return jax.nn.one_hot(jnp.zeros(prototype.shape[:-1], int), prototype.shape[-1])


one_hot = _OneHot()


# Not marked discrete, though they are: NumPyro's HMC and its autoguides then ask for the transform
# to unconstrained space, whose error says more than NumPyro's own.


class _EstimatedOneHot(_OneHot):
    """One-hot vectors drawn with a pathwise estimator."""

    is_discrete = False


class _EstimatedBoolean(type(constraints.boolean)):  # type: ignore[misc]
    """Zeros and ones drawn with a pathwise estimator."""

    is_discrete = False


class _SoftOneHot(_EstimatedOneHot):
    """Points of the simplex, drawn from a discrete distribution with a soft estimator."""

    def __call__(self, x: Array) -> Array:
        """Whether each vector is one, to rounding."""
        slack = tolerance(x.dtype, x.shape[-1])
        return (x >= 0).all(-1) & (abs(x.sum(-1) - 1) <= slack)


class _SoftBoolean(_EstimatedBoolean):
    """Numbers from 0 to 1, drawn from a Bernoulli distribution with a soft estimator."""

    def __call__(self, x: Array) -> Array:
        """Whether each number is one."""
        return (x >= 0) & (x <= 1)


@biject_to.register(_EstimatedOneHot)
@biject_to.register(_EstimatedBoolean)
@biject_to.register(_SoftOneHot)
@biject_to.register(_SoftBoolean)
def _no_transform(constraint: Any) -> IdentityTransform:
    return no_transform(_errors.no_density())


@biject_to.register(_OneHot)
def _no_transform_of_one_hot(constraint: Any) -> Never:
    raise _errors.discrete_site("one-hot vectors")


class LogSimplexTransform(ParameterFreeTransform):
    """From R^(K-1) to the log of the simplex: u -> log_softmax((u, 0)).

    Its log-determinant is zero: the density of ExpRelaxedOneHotCategorical is the one of the log
    ratios to the last category.
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
        """Zero, for each vector."""
        return jnp.zeros_like(y[..., 0])

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One entry more."""
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One entry less."""
        return (*shape[:-1], shape[-1] - 1)


@biject_to.register(_LogSimplex)
def _log_simplex_transform(constraint: _LogSimplex) -> LogSimplexTransform:
    return LogSimplexTransform()
