"""The relaxed Bernoulli distributions: logit space, (0, 1), straight-through."""

from numpyro.distributions import constraints

from relaxed_dists._distributions import bernoulli

from .._adapter import RelaxedDistribution
from .discrete import Bernoulli


class _RelaxedBinary(RelaxedDistribution):
    arg_constraints = {"temperature": constraints.positive, **Bernoulli.arg_constraints}

    @property
    def discrete(self) -> Bernoulli:
        """The discrete distribution of the hard value."""
        return self._as_discrete(Bernoulli)


class LogitRelaxedBernoulli(_RelaxedBinary):
    r"""The logit of a relaxed Bernoulli sample: logistic, and exact at every temperature.

    With L standard logistic, :math:`y = (\theta + L) / \tau`, and with :math:`d = \theta - \tau y`

    .. math:: \log q(y) = \log\tau + d - 2 \log(1 + e^d).

    An infinite logit (probs of exactly 0 or 1) is a point mass there: log_prob 0, -inf elsewhere.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

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
    r"""The binary Concrete distribution on (0, 1).

    With L standard logistic, :math:`x = \mathrm{sigmoid}((\theta + L) / \tau)`; its density is that
    of :class:`LogitRelaxedBernoulli` at :math:`\log x - \log(1 - x)`, divided by :math:`x (1 - x)`.
    Probs of exactly 0 or 1 (an infinite logit) are a point mass: log_prob 0 there, -inf elsewhere.

    A draw keeps its logit behind it (while the same object lives), so that its density is exact
    where it rounds to 0 or 1. A copy of such a number is refused, since the density is not known:
    see the page on lost samples. Other numbers are scored as they are.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

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
    r"""A value of 0 or 1 forward, the relaxed gradient backward.

    The value is a draw x of :class:`RelaxedBernoulli` rounded, its gradient that of x, and
    ``log_prob`` the density of x, which the value keeps behind it (while the same object lives). A
    copy of the value has lost x, and is refused: see the page on lost samples.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one, from 0 to 1, of the batch shape.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        validate_args: Whether to check arguments; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range, or a value has lost its relaxed sample.

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
