"""Subsets of k categories: the relaxed law, and the discrete one."""

import functools
from typing import Any, Never

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.distributions import biject_to, constraints

from relaxed_dists import _errors
from relaxed_dists._distributions import formulas, permutation, subset

from .._adapter import LogitsDistribution, RelaxedDistribution
from .._jax.input import holds
from .._jax.ops import compute_dtype, ops
from .constraints import no_transform, tolerance
from .discrete import asks_for_integers

# Compiled: their loops would be compiled anew at each call.
_relaxed = jax.jit(functools.partial(subset.relaxed, ops), static_argnums=(0, 1))
_hardest = jax.jit(functools.partial(subset.hardest, ops), static_argnums=2)
_inclusion = jax.jit(functools.partial(subset.inclusion, ops), static_argnums=0)
_entropy = jax.jit(functools.partial(subset.entropy, ops), static_argnums=0)
_log_prob = jax.jit(functools.partial(subset.log_prob, ops), static_argnums=0)


class _KHot(constraints.Constraint):
    """Vectors of k ones and otherwise zeros."""

    event_dim = 1
    is_discrete = True

    def __init__(self, k: int) -> None:
        self.k = k

    def __repr__(self) -> str:
        return f"{type(self).__name__[1:]}(k={self.k})"

    def __call__(self, x: Array) -> Array:
        """Whether each vector is k-hot."""
        return ((x == 0) | (x == 1)).all(-1) & (x.sum(-1) == self.k)

    def feasible_like(self, prototype: Array) -> Array:
        """The first k categories."""
        first = jnp.arange(prototype.shape[-1]) < self.k
        return jnp.broadcast_to(first, prototype.shape).astype(prototype.dtype)

    def tree_flatten(self) -> Any:
        """No leaves."""
        return (), ((), {"k": self.k})

    def eq(self, other: object, static: bool = False) -> bool:
        """Whether the other is of the same class and k."""
        return type(other) is type(self) and other.k == self.k


class _RelaxedKHot(_KHot):
    """Vectors of numbers from 0 up that sum to k."""

    is_discrete = False

    def __call__(self, x: Array) -> Array:
        """Whether each vector is one, to rounding."""
        slack = self.k * tolerance(x.dtype, x.shape[-1])
        return (x >= 0).all(-1) & (abs(x.sum(-1) - self.k) <= slack)


@biject_to.register(_RelaxedKHot)
def _no_transform(constraint: Any) -> Any:
    return no_transform(permutation.no_transform("RelaxedSubset"))


@biject_to.register(_KHot)
def _no_transform_of_k_hot(constraint: _KHot) -> Never:
    raise _errors.discrete_site(f"{constraint.k}-hot vectors")


class _OfSize(LogitsDistribution):
    """A law with a number k of categories, which is checked with its logits."""

    k: int

    def _set_size(self, k: Any) -> None:
        """Check k, when all else is set."""
        self.k = subset.size(type(self).__name__, k, self.event_shape[-1])
        if self._validate_args:
            # Not in float16, to which JAX would cast the bound, with a warning.
            kept = (self.logits.astype(compute_dtype(self.logits)) > -formulas.HUGE).sum(-1)
            if not holds(kept >= self.k):
                raise subset.too_few(type(self).__name__, self.k, self.logits)


class Subset(_OfSize):
    r"""The law of k categories drawn without replacement: k-hot vectors.

    The k largest of :math:`\theta + G`, with :math:`G` Gumbel noise: categories are drawn one after
    the other, each with probabilities proportional to :math:`w = \exp\theta` among those left, and
    their order is forgotten. With W the sum of w outside S,

    .. math:: P(S) = \int_0^1 \prod_{i \in S} \left(1 - u^{w_i / W}\right) du.

    A masked category is never in S. Where masks that can't be looked at leave fewer than k
    categories, the value has all of them.

    Args:
        k: The number of categories to draw, a Python number from 1 to K.
        probs: Weights w of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Kool, van Hoof, Welling, *Estimating Gradients for Discrete Random Variables by Sampling
        without Replacement* (2020), appendix B.

    Example:
        >>> from jax import random
        >>> d = Subset(2, logits=jnp.zeros(4))
        >>> sorted(d.sample(random.key(0)).tolist())
        [0.0, 0.0, 1.0, 1.0]
        >>> round(jnp.exp(d.log_prob(jnp.array([1.0, 1.0, 0.0, 0.0]))).item(), 4)  # one of six
        0.1667
    """

    has_enumerate_support = True
    _static = ("k",)

    def __init__(
        self,
        k: int | None = None,
        probs: Any = None,
        logits: Any = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, validate_args=validate_args)
        self._set_size(k)

    @property
    def support(self) -> _KHot:
        """k-hot vectors."""
        return _KHot(self.k)

    @property
    def discrete(self) -> "Subset":
        """The same law."""
        return self

    def _compute_logits(self) -> Array:
        return self.logits.astype(compute_dtype(self.logits))

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw k-hot values of shape ``sample_shape + batch_shape + (K,)``.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.
        """
        logits = self._compute_logits()
        noise = self._noise(key, sample_shape, logits)
        value = _hardest(logits, noise, self.k)
        return lax.stop_gradient(value.astype(self.logits.dtype)), []

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        """The log mass, by quadrature to 1e-6 of its size (1e-12 in float64).

        It has a gradient to the logits, and none to the value.

        Args:
            value: k-hot vectors of shape ``(..., K)``.
            intermediates: Not used.

        Returns:
            Log masses of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        value = self._check_value(value)
        if self._validate_args:
            remedy = "Round a relaxed value, or draw it with hard=True."
            self._refuse(value, self.support(value), f"{self.k}-hot vectors", remedy)
        logits = self._compute_logits()
        value = lax.stop_gradient(value.astype(logits.dtype))
        batch = jnp.broadcast_shapes(value.shape, logits.shape)
        mass: Array = _log_prob(self.k, jnp.broadcast_to(logits, batch), value)
        return mass

    def enumerate_support(self, expand: bool = True) -> Array:
        """All C(K, k) values, of shape ``(C,) + batch_shape + (K,)``.

        Args:
            expand: True, to expand them to the batch shape. Only NumPyro's inference asks without.

        Raises:
            NotImplementedError: If there are more than a million, or expand is False or NumPyro's
                enumeration asks, which would take the values to be 0, 1, 2 and so on.
        """
        if asks_for_integers(expand):
            raise subset.no_subset_integers()
        categories = self.event_shape[-1]
        values = ops.constant(subset.support("Subset", self.k, categories), self.logits)
        values = values.reshape(-1, *(1,) * len(self.batch_shape), categories)
        shape = (len(values), *self.batch_shape, categories)
        return jnp.broadcast_to(values, shape) if expand else values

    def _included(self) -> Array:
        p: Array = _inclusion(self.k, self._compute_logits())
        return p

    @property
    def mean(self) -> Array:
        """The probability of each category to be in the subset, which its probs are not.

        By quadrature, to 1e-6 (1e-12 in float64); up to 100 categories in float32, beyond to 1e-5.
        """
        return self._included().astype(self.logits.dtype)

    @property
    def variance(self) -> Array:
        """p (1 - p) for each entry, p the mean."""
        p = self._included()
        return (p * (1 - p)).astype(self.logits.dtype)

    def entropy(self) -> Array:
        """The entropy, of the batch shape: a sum over all C(K, k) values, exact as their log_prob.

        Raises:
            NotImplementedError: If there are more than a million values.
        """
        logits = self._compute_logits()
        every = subset.support("Subset", self.k, self.event_shape[-1])
        entropy: Array = _entropy(self.k, logits, ops.constant(every, logits))
        return entropy

    @property
    def mode(self) -> Array:
        """The most probable value, that of the k largest logits."""
        return _hardest(self._compute_logits(), 0.0, self.k).astype(self.logits.dtype)


class RelaxedSubset(_OfSize, RelaxedDistribution):
    r"""A relaxed k-hot vector: k rounds of softmax, each of what the others have left.

    With scores :math:`s = \theta + G` and :math:`G` Gumbel noise, k times
    :math:`a = \mathrm{softmax}(s / \tau)` and then :math:`s \leftarrow s + \log(1 - a)`; the value
    is the sum of all a. Its entries are at least 0 and sum to k, but one may exceed 1 (at most
    about 1.5 for k = 2, more for larger k). As the temperature falls the value tends to the k-hot
    vector of the k largest scores, a draw of :class:`Subset`.

    A masked category's entry is 0. Where k categories are left, their entries are 1; where masks
    that can't be looked at leave fewer, too.

    The density is not known: ``log_prob`` raises an error, and in an ELBO the law stands as
    ``sample("z", law.mask(False))``, which counts as 0. With k=1 the value is that of
    :class:`RelaxedOneHotCategorical`, which has a density.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        k: The number of categories, a Python number from 1 to K.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        hard: Whether the value is the k-hot vector, with the gradient of the relaxed one.
        validate_args: Whether to check arguments; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range.
        NotImplementedError: By ``log_prob``.

    Reference:
        Xie, Ermon, *Reparameterizable Subset Sampling via Continuous Relaxations* (2019),
        algorithm 1.

    Example:
        >>> from jax import random
        >>> z = RelaxedSubset(0.5, 2, logits=jnp.zeros(4)).sample(random.key(0))
        >>> round(z.sum().item(), 4)
        2.0
        >>> d = RelaxedSubset(0.5, 2, logits=jnp.zeros(4), hard=True)
        >>> sorted(d.sample(random.key(0)).tolist())
        [0.0, 0.0, 1.0, 1.0]
    """

    arg_constraints = {
        "temperature": constraints.positive,
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }
    _static = ("k", "hard")

    def __init__(
        self,
        temperature: Any,
        k: int,
        probs: Any = None,
        logits: Any = None,
        hard: bool = False,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(temperature, probs, logits, validate_args=validate_args)
        self.hard = hard
        self._set_size(k)

    @property
    def support(self) -> _KHot:
        """Vectors that sum to k, or k-hot ones; no transform leads to them."""
        return _RelaxedKHot(self.k)

    @property
    def discrete(self) -> Subset:
        """The discrete law with the same logits and k."""
        twin: Subset = self._twin(Subset)
        return twin

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw with a gradient to the parameters.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Vectors that sum to k, of shape ``sample_shape + batch_shape + (K,)``, and no
            intermediates.
        """
        logits, temperature = self._parameters()
        noise = self._noise(key, sample_shape, logits)
        value = _relaxed(self.k, self.hard, logits, temperature, noise)
        return self._as_value(value), []

    @property
    def mean(self) -> Array:
        """The mean if the value is hard, that of Subset; else an error, for it is not known."""
        mean: Array = self.discrete.mean if self.hard else super().mean
        return mean

    @property
    def variance(self) -> Array:
        """The variance if the value is hard, that of Subset; else an error, for it is not known."""
        variance: Array = self.discrete.variance if self.hard else super().variance
        return variance

    @property
    def mode(self) -> Array:
        """The most probable value if it is hard; else an error, for the density is not known."""
        mode: Array = self.discrete.mode if self.hard else super().mode
        return mode

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        """An error that says what to do instead."""
        return self._no_density(value, subset.no_subset_density(type(self).__name__))
