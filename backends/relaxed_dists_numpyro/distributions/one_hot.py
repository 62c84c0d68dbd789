"""The relaxed one-hot distributions: log space, simplex, straight-through."""

from numpyro.distributions import constraints

from relaxed_dists._distributions import one_hot

from .._adapter import RelaxedDistribution
from .constraints import log_simplex
from .discrete import OneHotCategorical


class _RelaxedOneHot(RelaxedDistribution):
    @property
    def discrete(self) -> OneHotCategorical:
        """The discrete distribution of the hard value."""
        return self._as_discrete(OneHotCategorical)


class ExpRelaxedOneHotCategorical(_RelaxedOneHot):
    r"""The log of a relaxed one-hot sample: the canonical node, exact at every temperature.

    With :math:`G_k` standard Gumbel, :math:`y = \mathrm{log\,softmax}((\theta + G) / \tau)` and

    .. math:: \log q(y) = \log\Gamma(K) + (K-1) \log\tau
        + \sum_k \log\mathrm{softmax}(\theta - \tau y)_k.

    A masked category's entry is -inf, and the distribution is that of the unmasked categories. If
    only one is unmasked, it is a point mass, whose log_prob is 0 at the point and -inf elsewhere.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant per row;
            -inf masks a category. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix C.3.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax import random
        >>> d = ExpRelaxedOneHotCategorical(0.5, logits=jnp.zeros(3))
        >>> y = d.rsample(random.key(0))
        >>> bool(abs(jnp.exp(y).sum() - 1) < 1e-5)
        True
        >>> bool(jnp.isfinite(d.log_prob(y)))
        True
    """

    support = log_simplex
    _family = one_hot.ExpRelaxedOneHot()


class RelaxedOneHotCategorical(_RelaxedOneHot):
    r"""The Concrete or Gumbel-Softmax distribution on the simplex.

    With :math:`G_k` standard Gumbel, :math:`x = \mathrm{softmax}((\theta + G) / \tau)` and

    .. math:: \log q(x) = \log\Gamma(K) + (K-1) \log\tau
        + \sum_k \log\mathrm{softmax}(\theta - \tau \log x)_k - \sum_k \log x_k.

    A masked category's entry is 0, and the distribution is that of the unmasked categories. If
    only one is unmasked, it is a point mass, whose log_prob is 0 at the point and -inf elsewhere.

    A draw keeps its log behind it (while the same object lives), so that its density is exact where
    small entries underflow. A copy with such entries is refused, since its density is not known:
    see the page on lost samples. Other points are scored as they are.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant per row;
            -inf masks a category. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3.1; Jang, Gu, Poole,
        *Categorical Reparameterization with Gumbel-Softmax* (2017), appendix B.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax import random
        >>> d = RelaxedOneHotCategorical(jnp.array([0.1, 1.0]), probs=jnp.ones((2, 3)) / 3)
        >>> d.rsample(random.key(0)).shape
        (2, 3)
    """

    support = constraints.simplex
    _family = one_hot.RelaxedOneHot()


class RelaxedOneHotCategoricalStraightThrough(RelaxedOneHotCategorical):
    r"""A one-hot value forward, the relaxed gradient backward.

    The value is the one-hot :math:`\arg\max_k x_k` of a draw x of
    :class:`RelaxedOneHotCategorical`, its gradient that of x, and ``log_prob`` the density of x,
    which the value keeps behind it (while the same object lives). A copy of the value has lost x,
    and is refused: see the page on lost samples.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``. Exactly one of probs and logits.
        validate_args: Whether to check arguments; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range, or a value has lost its relaxed sample.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.2.

    Example:
        >>> from jax import numpy as jnp
        >>> from jax import random
        >>> d = RelaxedOneHotCategoricalStraightThrough(0.5, logits=jnp.zeros(3))
        >>> z = d.sample(random.key(0))
        >>> sorted(z.tolist())
        [0.0, 0.0, 1.0]
        >>> bool(jnp.isfinite(d.log_prob(z)))
        True
    """

    _family = one_hot.OneHotStraightThrough()
