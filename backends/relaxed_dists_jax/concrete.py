"""Functions that draw relaxed samples and compute their densities, in JAX alone."""

from collections.abc import Sequence

from jax import Array

from relaxed_dists._distributions import bernoulli, one_hot
from relaxed_dists._distributions.call import Call
from relaxed_dists._distributions.family import Family
from relaxed_dists._ops import ArrayLike

from .from_logits import FromLogits


class _Call(Call, FromLogits):
    """A function's call as a distribution with logits and a temperature."""

    _has_temperature = True


def _call(name: str, family: Family, logits: Array, temperature: ArrayLike) -> _Call:
    return _Call(name, family, temperature, logits=logits)


def sample_concrete(
    logits: Array,
    temperature: ArrayLike,
    sample_shape: Sequence[int] = (),
    *,
    hard: bool = False,
    key: Array,
) -> Array:
    """A sample of the Concrete or Gumbel-Softmax distribution, a point of the simplex.

    The sample is ``x = softmax((logits + G) / temperature)``, with standard Gumbel noise G. The
    sample also keeps its log (while the same object lives), so that `concrete_log_prob` of the
    sample is exact even if small entries underflow.

    Args:
        logits: Real numbers of shape ``batch_shape + (K,)``; -inf masks a category.
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        sample_shape: The shape of independent samples.
        hard: Whether the sample is the one-hot argmax of x, with the gradient of x. It then keeps
            the log of x, and its density is that of x.
        key: A JAX random key.

    Returns:
        Points of the simplex, of shape ``sample_shape + batch_shape + (K,)``.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3.1; Jang, Gu, Poole,
        *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> from jax import numpy as jnp, random
        >>> x = sample_concrete(jnp.zeros(3), 0.5, (4,), key=random.key(0))
        >>> tuple(x.shape), bool((abs(x.sum(-1) - 1) < 1e-5).all())
        ((4, 3), True)
    """
    family: Family = one_hot.OneHotStraightThrough() if hard else one_hot.RelaxedOneHot()
    return _call("sample_concrete", family, logits, temperature)._draw(key, sample_shape)[0]


def concrete_log_prob(value: Array, logits: Array, temperature: ArrayLike) -> Array:
    """The log density of the Concrete distribution at points of the simplex.

    For logits theta and temperature tau, the log density is ::

        log q(x) = log Gamma(K) + (K - 1) log(tau)
                   + sum_k log softmax(theta - tau log(x))_k - sum_k log(x_k)

    The density of a sample of `sample_concrete` is exact, since the sample keeps the log of x. A
    copy of the sample does not keep this log. A copy with entries that underflow is refused, since
    its density is not known. Samples of `sample_exp_concrete` can be copied: their numbers
    determine their density.

    Args:
        value: Points of the simplex, of a shape that broadcasts with ``batch_shape + (K,)``.
        logits: Real numbers of shape ``batch_shape + (K,)``; -inf masks a category.
        temperature: Positive, a number or numbers that broadcast with the batch shape.

    Returns:
        Log densities of shape ``sample_shape + batch_shape``, in float32 or better.

    Raises:
        ValueError: If an argument is out of its range, or a value is off the simplex, or
            has entries that underflow and does not keep its log.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3.1; Jang, Gu, Poole,
        *Categorical Reparameterization with Gumbel-Softmax* (2017), appendix B.

    Example:
        >>> from jax import numpy as jnp
        >>> density = concrete_log_prob(jnp.array([0.2, 0.8]), jnp.zeros(2), 1.0)
        >>> abs(density.item()) < 1e-6  # the uniform density
        True
    """
    return _call("concrete_log_prob", one_hot.RelaxedOneHot(), logits, temperature).log_prob(value)


def sample_exp_concrete(
    logits: Array,
    temperature: ArrayLike,
    sample_shape: Sequence[int] = (),
    *,
    key: Array,
) -> Array:
    """The log of a sample of the Concrete distribution, exact at every temperature.

    The sample is ``y = log_softmax((logits + G) / temperature)``, with standard Gumbel noise G. The
    entry of a masked category is -inf.

    Args:
        logits: Real numbers of shape ``batch_shape + (K,)``; -inf masks a category.
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        sample_shape: The shape of independent samples.
        key: A JAX random key.

    Returns:
        Logs of points of the simplex, of shape ``sample_shape + batch_shape + (K,)``.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix C.3.

    Example:
        >>> from jax import numpy as jnp, random
        >>> y = sample_exp_concrete(jnp.zeros(3), 0.01, key=random.key(0))
        >>> bool(abs(jnp.exp(y).sum() - 1) < 1e-5)
        True
    """
    return _call("sample_exp_concrete", one_hot.ExpRelaxedOneHot(), logits, temperature)._draw(
        key, sample_shape
    )[0]


def exp_concrete_log_prob(value: Array, logits: Array, temperature: ArrayLike) -> Array:
    """The log density of the log of a Concrete sample.

    For logits theta and temperature tau, the log density is ::

        log q(y) = log Gamma(K) + (K - 1) log(tau) + sum_k log softmax(theta - tau y)_k

    Args:
        value: Logs of points of the simplex, of a shape that broadcasts with
            ``batch_shape + (K,)``.
        logits: Real numbers of shape ``batch_shape + (K,)``; -inf masks a category.
        temperature: Positive, a number or numbers that broadcast with the batch shape.

    Returns:
        Log densities of shape ``sample_shape + batch_shape``, in float32 or better.

    Raises:
        ValueError: If an argument is out of its range, or a value is not on the log simplex.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix C.3.

    Example:
        >>> from jax import numpy as jnp
        >>> y = jnp.log(jnp.array([0.2, 0.8]))
        >>> round(exp_concrete_log_prob(y, jnp.zeros(2), 1.0).item(), 4)  # log(.2 * .8)
        -1.8326
    """
    return _call("exp_concrete_log_prob", one_hot.ExpRelaxedOneHot(), logits, temperature).log_prob(
        value
    )


def sample_binary_concrete(
    logits: Array,
    temperature: ArrayLike,
    sample_shape: Sequence[int] = (),
    *,
    hard: bool = False,
    key: Array,
) -> Array:
    """A sample of the binary Concrete distribution, a number in (0, 1).

    The sample is ``x = sigmoid((logits + L) / temperature)``, with standard logistic noise L. The
    sample also keeps its logit (while the same object lives), so that `binary_concrete_log_prob` of
    the sample is exact even if the sample rounds to 0 or 1.

    Args:
        logits: Real numbers of the batch shape, or -inf for a point mass.
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        sample_shape: The shape of independent samples.
        hard: Whether the sample is x rounded to 0 or 1, with the gradient of x. It then keeps the
            logit of x, and its density is that of x.
        key: A JAX random key.

    Returns:
        Numbers from 0 to 1, of shape ``sample_shape + batch_shape``.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> from jax import numpy as jnp, random
        >>> x = sample_binary_concrete(jnp.zeros(3), 0.5, key=random.key(0))
        >>> bool(((0 < x) & (x < 1)).all())
        True
    """
    family: Family = bernoulli.BernoulliStraightThrough() if hard else bernoulli.RelaxedBernoulli()
    return _call("sample_binary_concrete", family, logits, temperature)._draw(key, sample_shape)[0]


def binary_concrete_log_prob(value: Array, logits: Array, temperature: ArrayLike) -> Array:
    """The log density of the binary Concrete distribution at numbers in (0, 1).

    The log density of x is that of its logit, `logit_concrete_log_prob` at ``log(x) - log(1 - x)``,
    minus ``log(x) + log(1 - x)``. The density of a sample of `sample_binary_concrete` is exact,
    since the sample keeps the logit of x. A copy of the sample does not keep this logit. A copy
    that is rounded to 0 or 1 is refused, since its density is not known. Samples of
    `sample_logit_concrete` can be copied: their numbers determine their density.

    Args:
        value: Numbers from 0 to 1, of a shape that broadcasts with the batch shape.
        logits: Real numbers of the batch shape, or -inf for a point mass.
        temperature: Positive, a number or numbers that broadcast with the batch shape.

    Returns:
        Log densities of shape ``sample_shape + batch_shape``, in float32 or better.

    Raises:
        ValueError: If an argument is out of its range, or a value is off the interval, or
            is 0 or 1 and does not keep its logit.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> from jax import numpy as jnp
        >>> density = binary_concrete_log_prob(jnp.array(0.3), jnp.zeros(()), 1.0)
        >>> abs(density.item()) < 1e-6  # the uniform density
        True
    """
    return _call(
        "binary_concrete_log_prob", bernoulli.RelaxedBernoulli(), logits, temperature
    ).log_prob(value)


def sample_logit_concrete(
    logits: Array,
    temperature: ArrayLike,
    sample_shape: Sequence[int] = (),
    *,
    key: Array,
) -> Array:
    """The logit of a sample of the binary Concrete distribution, exact at every temperature.

    The sample is ``y = (logits + L) / temperature``, with standard logistic noise L.

    Args:
        logits: Real numbers of the batch shape, or -inf for a point mass.
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        sample_shape: The shape of independent samples.
        key: A JAX random key.

    Returns:
        Real numbers of shape ``sample_shape + batch_shape``.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> from jax import numpy as jnp, random
        >>> sample_logit_concrete(jnp.zeros(3), 0.5, (2,), key=random.key(0)).shape
        (2, 3)
    """
    return _call(
        "sample_logit_concrete", bernoulli.LogitRelaxedBernoulli(), logits, temperature
    )._draw(key, sample_shape)[0]


def logit_concrete_log_prob(value: Array, logits: Array, temperature: ArrayLike) -> Array:
    """The log density of the logit of a binary Concrete sample.

    For temperature tau and ``d = logits - temperature * y``, the log density is ::

        log q(y) = log(tau) + d - 2 log(1 + exp(d))

    With a logit of -inf the distribution is a point mass: the result is 0 at y = -inf, and -inf
    elsewhere.

    Args:
        value: Real numbers of a shape that broadcasts with the batch shape.
        logits: Real numbers of the batch shape, or -inf for a point mass.
        temperature: Positive, a number or numbers that broadcast with the batch shape.

    Returns:
        Log densities of shape ``sample_shape + batch_shape``, in float32 or better.

    Raises:
        ValueError: If an argument is out of its range, or a value is NaN.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> from jax import numpy as jnp
        >>> density = logit_concrete_log_prob(jnp.array(0.0), jnp.zeros(()), 1.0)
        >>> round(jnp.exp(density).item(), 4)  # the logistic density
        0.25
    """
    return _call(
        "logit_concrete_log_prob", bernoulli.LogitRelaxedBernoulli(), logits, temperature
    ).log_prob(value)
