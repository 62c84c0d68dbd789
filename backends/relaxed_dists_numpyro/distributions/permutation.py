"""Permutations: the relaxed distribution of doubly stochastic matrices, and the discrete one."""

from numpyro.distributions import constraints

from relaxed_dists._distributions import permutation
from relaxed_dists._ops import ArrayLike

from .._adapter import LogitsDistribution, RelaxedDistribution
from .constraints import Values


class Permutation(LogitsDistribution):
    """The distribution of the best matching of noisy scores: permutation matrices.

    The value is the permutation matrix P with the largest ``sum_ij P_ij (logits + G)_ij``, with
    Gumbel noise G (the Gumbel-matching distribution). Rows are items and columns are places:
    ``P.mT @ x`` puts each item of x at its place. Adding a number to a row or a column of the
    logits changes nothing.

    The probability of a matrix has no closed form, so ``log_prob`` raises an error. In an ELBO
    write the site as ``sample("z", distribution.mask(False))``, with a log density of 0. SciPy
    finds the matching, in a callback from compiled code.

    Args:
        logits: Real numbers of shape ``(..., N, N)``; -inf forbids an item a place. If such masks
            leave no permutation and can't be checked, as in compiled code, some rows of the value
            are 0.
        validate_args: Whether to check arguments; by default NumPyro's setting.

    Raises:
        ValueError: If a parameter is out of its range, or masks leave no permutation.
        NotImplementedError: If ``log_prob`` is called.

    Reference:
        Mena, Belanger, Linderman, Snoek, *Learning Latent Permutations with Gumbel-Sinkhorn
        Networks* (2018), section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax import random
        >>> p = Permutation(logits=jnp.zeros((3, 3))).sample(random.key(0))
        >>> p.sum(0).tolist(), p.sum(1).tolist()
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    """

    arg_constraints = {"logits": constraints.independent(constraints.real, 2)}
    _family = permutation.Permutation()
    support = Values(_family)

    def __init__(self, logits: ArrayLike, *, validate_args: bool | None = None) -> None:
        super().__init__(None, None, logits, validate_args=validate_args)

    @property
    def discrete(self) -> "Permutation":
        """This distribution itself."""
        return self


class RelaxedPermutation(RelaxedDistribution):
    """A relaxed permutation matrix: noisy scores, normalised by Sinkhorn's algorithm.

    The rows and then the columns of ``exp((logits + G) / temperature)``, with Gumbel noise G, are
    divided by their sums, ``iterations`` times, in log space. So the columns sum to 1 up to
    rounding, and the rows nearly. For N = 10, the largest error of a row's sum has these medians
    and 95 % quantiles after 20 iterations: 5e-8 and 2e-3 at temperature 1, 5e-3 and 0.04 at
    temperature 0.5, 0.1 and 0.5 at temperature 0.1. After 100 iterations, they are at these
    temperatures 1e-15 and 3e-13, 4e-10 and 5e-3, 0.01 and 0.02. The value tends to a draw of
    `Permutation` as the temperature falls and the iterations grow.

    The density is not known, and ``log_prob`` raises an error. In an ELBO write the site as
    ``sample("z", distribution.mask(False))``, with a log density of 0.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        logits: Real numbers of shape ``(..., N, N)``, a score of each item (row) at each place
            (column). A score of -inf forbids the item the place, and the value's entry is then 0.
        iterations: The number of normalisations, a Python integer of at least 1.
        hard: Whether the value is the best matching of the same noisy scores, with the gradient of
            the relaxed value.
        validate_args: Whether to check arguments; by default NumPyro's setting.

    Raises:
        ValueError: If a parameter is out of its range, or masks leave no permutation.
        NotImplementedError: If ``log_prob`` is called.

    Reference:
        Mena, Belanger, Linderman, Snoek, *Learning Latent Permutations with Gumbel-Sinkhorn
        Networks* (2018), sections 2 and 3.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax import random
        >>> p = RelaxedPermutation(1.0, logits=jnp.zeros((3, 3))).sample(random.key(0))
        >>> bool(abs(p.sum(0) - 1).max() < 1e-6), bool(abs(p.sum(1) - 1).max() < 0.01)
        (True, True)
    """

    arg_constraints = {"temperature": constraints.positive, **Permutation.arg_constraints}
    reparametrized_params = list(arg_constraints)
    _family = permutation.RelaxedPermutation(20, False)
    support = Values(_family)

    def __init__(
        self,
        temperature: ArrayLike,
        logits: ArrayLike,
        iterations: int = 20,
        hard: bool = False,
        *,
        validate_args: bool | None = None,
    ) -> None:
        rounds = permutation.rounds(type(self).__name__, iterations)
        self._family = permutation.RelaxedPermutation(rounds, hard)
        super().__init__(temperature, None, logits, validate_args=validate_args)

    @property
    def iterations(self) -> int:
        """How often rows and columns are normalised."""
        return self._family.iterations

    @property
    def hard(self) -> bool:
        """Whether values are permutation matrices."""
        return self._family.hard

    @property
    def discrete(self) -> Permutation:
        """The discrete distribution with the same logits."""
        return self._as_discrete(Permutation)
