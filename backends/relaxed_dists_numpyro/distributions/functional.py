"""Functions for code that uses neither sample statements nor distributions."""

from typing import Any

from jax import Array

from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists_jax.ops import ops

from .discrete import OneHotCategorical


def gumbel_softmax(logits: Array, temperature: Any, hard: bool = False, *, key: Array) -> Array:
    r"""A Gumbel-Softmax sample: softmax((logits + G) / temperature), with Gumbel noise G.

    Args:
        logits: Scores of shape ``(..., K)``, categories last; -inf masks a category.
        temperature: A positive number, or positive numbers that broadcast with ``logits[..., 0]``.
            A hard value's distribution does not depend on the temperature, so with ``hard`` the
            gradient by the temperature is 0.
        hard: Whether the value is the one-hot argmax, with the gradient of the soft value.
        key: A JAX random key.

    Returns:
        A value of the logits' shape and dtype.

    Raises:
        ValueError: If logits are NaN or inf, a row has no unmasked category, or a temperature is
            not positive.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> from jax import numpy as jnp, random
        >>> gumbel_softmax(jnp.zeros(3), 0.5, hard=True, key=random.key(0)).sum().item()
        1.0
    """
    distribution = OneHotCategorical(logits=logits, estimator=GumbelSoftmax(temperature, hard))
    return distribution.rsample(key)


def straight_through(hard: Array, soft: Array) -> Array:
    """The hard value in the forward pass, the gradient of the soft value in the backward pass.

    Args:
        hard: Any array; its gradient is not used.
        soft: An array of a shape that broadcasts with that of ``hard``.

    Returns:
        Exactly the hard value, with the soft value's gradient.

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
