"""Subsets of k categories: the relaxed distribution, and the discrete one."""

from typing import Any

from relaxed_dists._distributions import subset

from .._adapter import LogitsDistribution, RelaxedDistribution
from .constraints import Values


class Subset(LogitsDistribution):
    r"""The distribution of k categories drawn without replacement: k-hot vectors.

    The value marks the k largest of :math:`\theta + G`, with :math:`G` Gumbel noise. This is as if
    categories were drawn one after the other, each with probabilities proportional to
    :math:`w = \exp\theta` among those left, and their order forgotten. The probability of a set S
    is, with W the sum of w outside S,

    .. math:: P(S) = \int_0^1 \prod_{i \in S} \left(1 - u^{w_i / W}\right) du.

    A masked category is never in S. Masks that can't be checked, as in compiled code, may leave
    fewer than k categories; then the value marks each category that is left.

    Args:
        k: The number of categories to draw, a Python number from 1 to K.
        probs: Weights w of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant per row;
            -inf masks a category. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

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
        probs: Any = None,
        logits: Any = None,
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
        """k-hot vectors."""
        return Values(self._family)

    @property
    def discrete(self) -> "Subset":
        """The same distribution."""
        return self


class RelaxedSubset(RelaxedDistribution):
    r"""A relaxed k-hot vector: k rounds of softmax, each on what the rounds before left.

    With scores :math:`s = \theta + G` and :math:`G` Gumbel noise, k times
    :math:`a = \mathrm{softmax}(s / \tau)` and then :math:`s \leftarrow s + \log(1 - a)`; the value
    is the sum of all a. Its entries are at least 0 and sum to k, but one may exceed 1 (at most
    about 1.5 for k = 2, more for larger k). As the temperature falls the value tends to the k-hot
    vector of the k largest scores, a draw of :class:`Subset`.

    A masked category's entry is 0. If the masks leave k categories, their entries are 1; also if
    they leave fewer, which is an error unless the masks can't be looked at.

    The density is not known, and ``log_prob`` raises an error. In an ELBO write the site as
    ``sample("z", distribution.mask(False))``, which counts as 0. With k=1 the value is that of
    :class:`RelaxedOneHotCategorical`, which has a density.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        k: The number of categories, a Python number from 1 to K.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant per row;
            -inf masks a category. Exactly one of probs and logits.
        hard: Whether the value is the k-hot vector, with the gradient of the relaxed one.
        validate_args: Whether to check arguments; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range.
        NotImplementedError: By ``log_prob``.

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
        temperature: Any,
        k: int,
        probs: Any = None,
        logits: Any = None,
        hard: bool = False,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self._family = subset.RelaxedSubset(k, hard)
        super().__init__(temperature, probs, logits, validate_args=validate_args)

    @property
    def k(self) -> int:
        """The sum of a value."""
        return self._family.k

    @property
    def hard(self) -> bool:
        """Whether values are k-hot."""
        return self._family.hard

    @property
    def support(self) -> Values:
        """Vectors that sum to k, or k-hot ones; no transform leads to them."""
        return Values(self._family)

    @property
    def discrete(self) -> Subset:
        """The discrete distribution with the same logits and k."""
        return self._as_discrete(Subset, subset.Subset(self.k))
