"""The relaxed one-hot distributions: in log space, on the simplex, and straight-through."""

from numpyro.distributions import constraints

from relaxed_dists._distributions import one_hot

from .._adapter import RelaxedDistribution
from .constraints import log_simplex
from .discrete import OneHotCategorical


class _RelaxedOneHot(RelaxedDistribution):
    @property
    def discrete(self) -> OneHotCategorical:
        """The discrete distribution with the same logits."""
        return self._as_discrete(OneHotCategorical)


class ExpRelaxedOneHotCategorical(_RelaxedOneHot):
    """The log of a relaxed one-hot sample, with a density that is exact at every temperature.

    A sample is ``y = log_softmax((logits + G) / temperature)``, with standard Gumbel noise G. Its
    log density, for logits theta and temperature tau, is ::

        log q(y) = log Gamma(K) + (K - 1) log(tau) + sum_k log softmax(theta - tau y)_k

    A masked category's entry is -inf, and the distribution is that of the unmasked categories. If
    only one category is unmasked, the distribution is a point mass: log_prob is 0 at the point and
    -inf elsewhere.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: Real numbers of shape ``(..., K)``; -inf masks a category. A constant added to all K
            changes nothing. Give either probs or logits.
        validate_args: Whether to check arguments and values; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

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
    """The Concrete or Gumbel-Softmax distribution on the simplex.

    A sample is ``x = softmax((logits + G) / temperature)``, with standard Gumbel noise G. Its log
    density, for logits theta and temperature tau, is ::

        log q(x) = log Gamma(K) + (K - 1) log(tau)
                   + sum_k log softmax(theta - tau log(x))_k - sum_k log(x_k)

    A masked category's entry is 0, and the distribution is that of the unmasked categories. If only
    one category is unmasked, the distribution is a point mass: log_prob is 0 at the point and -inf
    elsewhere.

    A draw also keeps its log (while the same object lives), so that the draw's density is exact
    even if small entries underflow. ``log_prob`` refuses a copy of a draw with such entries, since
    the copy's density is not known: see the page on lost samples. The density of any other point is
    computed from its entries.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: Real numbers of shape ``(..., K)``; -inf masks a category. A constant added to all K
            changes nothing. Give either probs or logits.
        validate_args: Whether to check arguments and values; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

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
    """A one-hot value in the forward pass, a relaxed sample's gradient in the backward pass.

    The value is one-hot, with its 1 at the largest entry of a draw x of `RelaxedOneHotCategorical`,
    and has the gradient of x. ``log_prob`` is the log density of x, which the value keeps (while
    the same object lives). ``log_prob`` refuses a copy of the value, which does not have x: see the
    page on lost samples.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: Real numbers of shape ``(..., K)``. Give either probs or logits.
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
        >>> d = RelaxedOneHotCategoricalStraightThrough(0.5, logits=jnp.zeros(3))
        >>> z = d.sample(random.key(0))
        >>> sorted(z.tolist())
        [0.0, 0.0, 1.0]
        >>> bool(jnp.isfinite(d.log_prob(z)))
        True
    """

    _family = one_hot.OneHotStraightThrough()
