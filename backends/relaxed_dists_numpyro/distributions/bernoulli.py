"""The relaxed Bernoulli distributions: in logit space, on (0, 1), and straight-through."""

from numpyro.distributions import constraints

from relaxed_dists._distributions import bernoulli

from .._adapter import RelaxedDistribution
from .discrete import Bernoulli


class _RelaxedBinary(RelaxedDistribution):
    arg_constraints = {"temperature": constraints.positive, **Bernoulli.arg_constraints}

    @property
    def discrete(self) -> Bernoulli:
        """The discrete distribution with the same logits; for HardConcrete, that of ``z != 0``."""
        return self._as_discrete(Bernoulli)


class LogitRelaxedBernoulli(_RelaxedBinary):
    """The distribution of a relaxed Bernoulli sample's logit, which is a logistic distribution.

    A sample is ``y = (logits + L) / temperature``, with standard logistic noise L. Its log density,
    for temperature tau and ``d = logits - temperature * y``, is ::

        log q(y) = log(tau) + d - 2 log(1 + exp(d))

    With an infinite logit (probs of exactly 0 or 1) the distribution is a point mass: log_prob is 0
    at y equal to that logit, and -inf elsewhere.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        probs: Probabilities from 0 to 1, the sigmoid of the logits, of the batch shape.
        logits: Real numbers of the batch shape. Give either probs or logits.
        validate_args: Whether to check arguments and values; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> import jax.numpy as jnp
        >>> d = LogitRelaxedBernoulli(1.0, logits=jnp.array(0.0))
        >>> round(jnp.exp(d.log_prob(0.0)).item(), 4)  # the logistic density
        0.25
    """

    support = constraints.real
    _family = bernoulli.LogitRelaxedBernoulli()


class RelaxedBernoulli(_RelaxedBinary):
    """The binary Concrete distribution on (0, 1).

    A sample is ``x = sigmoid((logits + L) / temperature)``, with standard logistic noise L. Its
    density is that of `LogitRelaxedBernoulli` at ``log(x) - log(1 - x)``, divided by
    ``x * (1 - x)``. With probs of exactly 0 or 1 (an infinite logit) the distribution is a point
    mass: log_prob is 0 at the point and -inf elsewhere.

    A draw also keeps its logit (while the same object lives), so that the draw's density is exact
    even if the draw rounds to 0 or 1. ``log_prob`` refuses a copy of such a draw, since the copy's
    density is not known: see the page on lost samples. The density of any other number is computed
    from the number.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        probs: Probabilities from 0 to 1, the sigmoid of the logits, of the batch shape.
        logits: Real numbers of the batch shape. Give either probs or logits.
        validate_args: Whether to check arguments and values; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> import jax.numpy as jnp
        >>> d = RelaxedBernoulli(1.0, probs=jnp.array(0.5))  # the uniform distribution
        >>> d.log_prob(jnp.array(0.3)).item() ** 2 < 1e-12
        True
    """

    support = constraints.unit_interval
    _family = bernoulli.RelaxedBernoulli()


class RelaxedBernoulliStraightThrough(RelaxedBernoulli):
    """A value of 0 or 1 in the forward pass, a relaxed sample's gradient in the backward pass.

    The value is a rounded draw x of `RelaxedBernoulli`, with the gradient of x. ``log_prob`` is the
    log density of x, which the value keeps (while the same object lives). ``log_prob`` refuses a
    copy of the value, which does not have x: see the page on lost samples.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        probs: Probabilities from 0 to 1, the sigmoid of the logits, of the batch shape.
        logits: Real numbers of the batch shape. Give either probs or logits.
        validate_args: Whether to check arguments; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value without its relaxed sample, such as a copy of a
            draw.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.2.

    Example:
        >>> from jax import numpy as jnp
        >>> from jax import random
        >>> d = RelaxedBernoulliStraightThrough(0.5, logits=jnp.zeros(4))
        >>> set(d.sample(random.key(0)).tolist()) <= {0.0, 1.0}
        True
    """

    _family = bernoulli.BernoulliStraightThrough()
