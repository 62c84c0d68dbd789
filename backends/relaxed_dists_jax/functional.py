"""Functions that draw discrete samples with an estimated gradient, in JAX alone."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from relaxed_dists._distributions import discrete, formulas
from relaxed_dists._distributions.call import Call
from relaxed_dists._distributions.estimator_base import Estimator
from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists._ops import ArrayLike

from .from_logits import EstimatedFromLogits
from .ops import ops


class _Call(Call, EstimatedFromLogits):
    """A function's call as a distribution with logits and an estimator."""


def gumbel_softmax(
    logits: Array,
    tau: ArrayLike = 1,
    hard: bool = False,
    axis: int = -1,
    *,
    key: Array,
) -> Array:
    """A Gumbel-Softmax sample: ``softmax((logits + G) / tau)``, with Gumbel noise G.

    The arguments are those of ``torch.nn.functional.gumbel_softmax`` without ``eps``, with JAX's
    name ``axis`` for ``dim``, and a random key. This function differs from torch's in that logits
    of -inf mask categories, the noise has exact tails, half precision is computed in float32, and
    bad arguments are refused.

    The distribution of a hard value does not depend on ``tau``, so the gradient with respect to
    ``tau`` is 0 here. torch's function returns that of the soft value.

    Args:
        logits: Real numbers, with the categories on the axis ``axis``; -inf masks a category.
        tau: The temperature, positive, a number or numbers that broadcast with the logits' shape
            without the categories' axis.
        hard: Whether the value is the one-hot argmax, with the gradient of the soft value.
        axis: The axis of the categories.
        key: A JAX random key.

    Returns:
        A value of the logits' shape and dtype.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> from jax import numpy as jnp, random
        >>> gumbel_softmax(jnp.zeros(3), tau=0.5, hard=True, key=random.key(0)).sum().item()
        1.0
    """
    last = logits if axis == -1 else jnp.moveaxis(logits, axis, -1)
    call = _call("gumbel_softmax", discrete.OneHot(), last)
    call.estimator = GumbelSoftmax(call._fitted(tau, "tau"), hard)
    value = call._draw(key)[0]
    return value if axis == -1 else jnp.moveaxis(value, -1, axis)


def straight_through(hard: Array, soft: Array) -> Array:
    """The hard value in the forward pass, the gradient of the soft value in the backward pass.

    Args:
        hard: Any array; its gradient is not used.
        soft: An array of a shape that broadcasts with that of ``hard``.

    Returns:
        Exactly the hard value, with the gradient of the soft value.

    Reference:
        Bengio, Leonard, Courville, *Estimating or Propagating Gradients Through Stochastic
        Neurons* (2013), section 4.

    Example:
        >>> from jax import numpy as jnp
        >>> straight_through(jnp.array([0.0, 1.0]), jnp.array([0.3, 0.7]))
        Array([0., 1.], dtype=float32)
    """
    result: Array = formulas.straight_through(ops, hard, soft)
    return result


def sample_one_hot(
    logits: Array,
    estimator: Estimator | Callable[..., Any] | None,
    sample_shape: Sequence[int] = (),
    *,
    key: Array,
) -> Array:
    """A one-hot sample of softmax(logits), with the gradient of an estimator.

    Args:
        logits: Real numbers of shape ``(..., K)``; -inf masks a category.
        estimator: An estimator such as ``StraightThrough()`` or ``GumbelRao(0.5)``; a function of
            the logits, the one-hot draw and the Gumbel noise that made it; or None, for a sample
            without a gradient.
        sample_shape: The shape of independent samples.
        key: A JAX random key.

    Returns:
        Values of shape ``sample_shape + logits.shape``: one-hot, or soft if the estimator's
        values are soft.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> import jax
        >>> from jax import numpy as jnp, random
        >>> from relaxed_dists.jax import ReinMax
        >>> def first(logits):
        ...     return sample_one_hot(logits, ReinMax(), key=random.key(0))[0]
        >>> bool(abs(jax.grad(first)(jnp.zeros(3))).sum() > 0)
        True
    """
    return _sample("sample_one_hot", discrete.OneHot(), logits, estimator, sample_shape, key)


def sample_bernoulli(
    logits: Array,
    estimator: Estimator | Callable[..., Any] | None,
    sample_shape: Sequence[int] = (),
    *,
    key: Array,
) -> Array:
    """A sample that is 1 with probability sigmoid(logits), else 0, with an estimator's gradient.

    The sample is distributed like the first entry of one from `sample_one_hot` for two categories,
    whose logits are ``logits`` and 0.

    Args:
        logits: Real numbers, or -inf for the probability 0.
        estimator: An estimator, a function of the user, or None, as for `sample_one_hot`.
        sample_shape: The shape of independent samples.
        key: A JAX random key.

    Returns:
        Values of shape ``sample_shape + logits.shape``: 0 or 1, or soft if the estimator's
        values are soft.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> from jax import numpy as jnp, random
        >>> from relaxed_dists.jax import StraightThrough
        >>> z = sample_bernoulli(jnp.zeros(9), StraightThrough(), key=random.key(0))
        >>> sorted(set(z.tolist()))
        [0.0, 1.0]
    """
    return _sample("sample_bernoulli", discrete.Bernoulli(), logits, estimator, sample_shape, key)


def _call(name: str, family: discrete.OneHot, logits: Any) -> _Call:
    return _Call(name, family, None, logits=logits)


def _sample(
    name: str,
    family: discrete.OneHot,
    logits: Any,
    estimator: Any,
    sample_shape: Sequence[int],
    key: Array,
) -> Array:
    call = _call(name, family, logits)
    call._fit(estimator)
    return call._draw(key, sample_shape)[0]
