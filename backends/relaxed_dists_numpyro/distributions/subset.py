"""Subsets of k categories: the relaxed distribution, and the discrete one."""

from relaxed_dists._distributions import subset
from relaxed_dists._ops import ArrayLike

from .._adapter import LogitsDistribution, RelaxedDistribution
from .constraints import Values


class Subset(LogitsDistribution):
    """The distribution of k categories drawn without replacement: k-hot vectors.

    The value is 1 at the k largest entries of ``logits + G``, with Gumbel noise G, and 0 elsewhere.
    Drawing k categories one after the other, with probabilities proportional to ``w = exp(logits)``
    among the remaining categories, has the same distribution if the order is ignored. With W the
    sum of w outside a set S, the probability of S is ::

        P(S) = integral_0^1 prod_(i in S) (1 - u^(w_i / W)) du

    A masked category is never in S. If masks leave fewer than k categories and can't be checked, as
    in compiled code, the value is 1 at each unmasked category.

    Args:
        k: The number of categories to draw, a Python integer from 1 to K.
        probs: Weights w of shape ``(..., K)``, at least 0; they are normalised.
        logits: Real numbers of shape ``(..., K)``; -inf masks a category. A constant added to all K
            changes nothing. Give either probs or logits.
        validate_args: Whether to check arguments and values; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

    Reference:
        Kool, van Hoof, Welling, *Estimating Gradients for Discrete Random Variables by Sampling
        without Replacement* (2020), appendix B.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax import random
        >>> d = Subset(2, logits=jnp.zeros(4))
        >>> sorted(d.sample(random.key(0)).tolist())
        [0.0, 0.0, 1.0, 1.0]
        >>> round(jnp.exp(d.log_prob(jnp.array([1.0, 1.0, 0.0, 0.0]))).item(), 4)  # one of six
        0.1667
    """

    has_enumerate_support = True
    _family = subset.Subset(1)

    def __init__(
        self,
        k: int | None = None,
        probs: ArrayLike | None = None,
        logits: ArrayLike | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self._family = subset.Subset(k)
        super().__init__(None, probs, logits, validate_args=validate_args)

    @property
    def k(self) -> int:
        """The number of categories that a value selects."""
        return self._family.k

    @property
    def support(self) -> Values:
        """The constraint to k-hot vectors."""
        return Values(self._family)

    @property
    def discrete(self) -> "Subset":
        """This distribution itself."""
        return self


class RelaxedSubset(RelaxedDistribution):
    """A relaxed k-hot vector: the sum of k softmaxes, which select one category after the other.

    The scores start at ``s = logits + G``, with Gumbel noise G. Each of k rounds computes
    ``a = softmax(s / temperature)`` and then adds ``log(1 - a)`` to s; the value is the sum of all
    a. The value's entries are at least 0 and sum to k, but an entry may exceed 1 (at most about 1.5
    for k = 2, more for larger k). The value tends to the k-hot vector of the k largest scores, a
    draw of `Subset`, as the temperature falls.

    A masked category's entry is 0. If the masks leave exactly k categories, those entries are 1.
    Fewer categories are an error; if the masks can't be checked, as in compiled code, the entries
    of all unmasked categories are 1.

    The density is not known, and ``log_prob`` raises an error. In an ELBO write the site as
    ``sample("z", distribution.mask(False))``, with a log density of 0. With k=1 the value is that
    of `RelaxedOneHotCategorical`, which has a density.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        k: The number of categories, a Python integer from 1 to K.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: Real numbers of shape ``(..., K)``; -inf masks a category. A constant added to all K
            changes nothing. Give either probs or logits.
        hard: Whether the value is the k-hot vector, with the gradient of the relaxed value.
        validate_args: Whether to check arguments; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or masks leave fewer than k categories.
        NotImplementedError: If ``log_prob`` is called.

    Reference:
        Xie, Ermon, *Reparameterizable Subset Sampling via Continuous Relaxations* (2019),
        algorithm 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax import random
        >>> z = RelaxedSubset(0.5, 2, logits=jnp.zeros(4)).sample(random.key(0))
        >>> round(z.sum().item(), 4)
        2.0
        >>> d = RelaxedSubset(0.5, 2, logits=jnp.zeros(4), hard=True)
        >>> sorted(d.sample(random.key(0)).tolist())
        [0.0, 0.0, 1.0, 1.0]
    """

    _family = subset.RelaxedSubset(1, False)

    def __init__(
        self,
        temperature: ArrayLike,
        k: int,
        probs: ArrayLike | None = None,
        logits: ArrayLike | None = None,
        hard: bool = False,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self._family = subset.RelaxedSubset(k, hard)
        super().__init__(temperature, probs, logits, validate_args=validate_args)

    @property
    def k(self) -> int:
        """The sum of a value's entries."""
        return self._family.k

    @property
    def hard(self) -> bool:
        """Whether values are k-hot."""
        return self._family.hard

    @property
    def support(self) -> Values:
        """The constraint to vectors that sum to k, or to k-hot vectors if ``hard`` is true."""
        return Values(self._family)

    @property
    def discrete(self) -> Subset:
        """The discrete distribution with the same logits and k."""
        return self._as_discrete(Subset, subset.Subset(self.k))
