"""Permutations: the relaxed law of doubly stochastic matrices, and the discrete one."""

from collections.abc import Sequence
from typing import Any, Never

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to

from relaxed_dists._distributions import permutation

from .._adapter import LogitsDistribution, RelaxedDistribution
from .._torch.ops import compute_dtype, ops
from .._torch.state import known, numbers
from .constraints import tolerance


class _PermutationMatrix(constraints.Constraint):
    """Matrices of zeros and a one in each row and each column."""

    event_dim = 2
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        """Whether each matrix is one."""
        hot = ((value == 0) | (value == 1)).all(-1).all(-1)
        return hot & (value.sum(-1) == 1).all(-1) & (value.sum(-2) == 1).all(-1)


class _DoublyStochastic(_PermutationMatrix):
    """Matrices of numbers from 0 up whose columns sum to 1, and the rows nearly so."""

    is_discrete = False

    def check(self, value: Tensor) -> Tensor:
        """Whether each matrix has such columns, to rounding."""
        slack = tolerance(value.dtype, value.shape[-1])
        return (value >= 0).all(-1).all(-1) & ((value.sum(-2) - 1).abs() <= slack).all(-1)


@biject_to.register(_DoublyStochastic)
@transform_to.register(_DoublyStochastic)
def _no_transform(constraint: constraints.Constraint) -> Never:
    raise permutation.no_transform("RelaxedPermutation")


class _OfScores(LogitsDistribution):
    """A law with a square of scores, in which each mask leaves a permutation."""

    _square = True

    def _check_square(self) -> None:
        name = type(self).__name__
        permutation.square(name, self.event_shape)
        if not self._validate_args or not known(self.logits):
            return
        if not permutation.possible(numbers(self.logits)):
            raise permutation.no_permutation(name, self.logits)

    @property
    def probs(self) -> Never:
        """An error that says why there are none."""
        raise permutation.no_probs(type(self).__name__)


class Permutation(_OfScores):
    r"""The best matching of noisy scores: permutation matrices.

    The value is the permutation matrix P with the largest
    :math:`\sum_{ij} P_{ij} (\theta + G)_{ij}`, with :math:`G` Gumbel noise (the Gumbel-matching
    law). Row i is the item, column j its place: ``P.mT @ x`` puts item i of x at its place. Adding
    a number to a row or a column of the logits changes nothing.

    The probability of a matrix has no closed form, so ``log_prob`` raises an error: in an ELBO the
    law stands as ``sample("z", law.mask(False))``, which counts as 0.

    Args:
        logits: :math:`\theta` of shape ``(..., N, N)``, any real numbers; -inf forbids an item a
            place. Where masks that can't be looked at leave no permutation, some rows are 0.
        validate_args: Whether to check arguments; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range.
        NotImplementedError: By ``log_prob``.

    Reference:
        Mena, Belanger, Linderman, Snoek, *Learning Latent Permutations with Gumbel-Sinkhorn
        Networks* (2018), section 3.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> p = Permutation(logits=torch.zeros(3, 3)).sample()
        >>> p.sum(0).tolist(), p.sum(1).tolist()
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    """

    arg_constraints = {"logits": constraints.independent(constraints.real, 2)}
    support = _PermutationMatrix()

    def __init__(self, logits: Any, validate_args: bool | None = None) -> None:
        super().__init__(None, logits, None, validate_args)
        self._check_square()

    @property
    def discrete(self) -> "Permutation":
        """The same law."""
        return self

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw permutation matrices of shape ``sample_shape + batch_shape + (N, N)``.

        Args:
            sample_shape: The shape of independent draws.
        """
        with torch.no_grad():
            logits = self.logits.to(compute_dtype(self.logits))
            noise = self._noise(sample_shape, logits)
            return permutation.matching(ops, logits, noise).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """An error that says what to do instead."""
        return self._no_density(value, permutation.no_permutation_density(type(self).__name__))

    @property
    def mode(self) -> Tensor:
        """The best matching of the logits themselves."""
        logits = self.logits.to(compute_dtype(self.logits))
        return permutation.matching(ops, logits, 0.0).to(self.logits.dtype)


class RelaxedPermutation(_OfScores, RelaxedDistribution):
    r"""A relaxed permutation matrix: Sinkhorn's normalisations of noisy scores.

    With :math:`G` Gumbel noise, :math:`\exp((\theta + G)/\tau)` has first its rows and then its
    columns divided by their sums, and this ``iterations`` times, in log space. So the columns sum
    to 1 to rounding, and the rows nearly. The largest error of a row, at the median and the 95 %
    quantile of draws with N = 10: after 20 iterations 5e-8 and 2e-3 at temperature 1, 5e-3 and 0.04
    at 0.5, 0.1 and 0.5 at 0.1; after 100 iterations 1e-15 and 3e-13, 4e-10 and 5e-3, 0.01 and 0.02.
    As the temperature falls and the iterations grow, the value tends to a draw of
    :class:`Permutation`.

    The density is not known: ``log_prob`` raises an error, and in an ELBO the law stands as
    ``sample("z", law.mask(False))``, which counts as 0.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        logits: :math:`\theta` of shape ``(..., N, N)``, a score of each item (row) at each place
            (column): any real numbers; -inf forbids an item a place, and its entry is 0.
        iterations: How often to normalise, a Python number of at least 1.
        hard: Whether the value is the best matching of the same noisy scores, with the gradient of
            the relaxed one.
        validate_args: Whether to check arguments; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range.
        NotImplementedError: By ``log_prob``.

    Reference:
        Mena, Belanger, Linderman, Snoek, *Learning Latent Permutations with Gumbel-Sinkhorn
        Networks* (2018), sections 2 and 3.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> p = RelaxedPermutation(1.0, logits=torch.zeros(3, 3)).rsample()
        >>> bool((p.sum(0) - 1).abs().max() < 1e-6), bool((p.sum(1) - 1).abs().max() < 0.01)
        (True, True)
    """

    arg_constraints = {"temperature": constraints.positive, **Permutation.arg_constraints}
    support = _DoublyStochastic()
    _static = ("iterations", "hard")

    def __init__(
        self,
        temperature: Any,
        logits: Any,
        iterations: int = 20,
        hard: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        self.iterations = permutation.rounds(type(self).__name__, iterations)
        self.hard = hard
        RelaxedDistribution.__init__(self, temperature, None, logits, validate_args)
        self._check_square()

    @property
    def discrete(self) -> Permutation:
        """The discrete law with the same logits."""
        twin: Permutation = self._twin(Permutation)
        return twin

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with a gradient to the parameters.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Matrices of shape ``sample_shape + batch_shape + (N, N)``.
        """
        logits, temperature = self._parameters()
        noise = self._noise(sample_shape, logits)
        value = permutation.relaxed(ops, self.iterations, self.hard, logits, temperature, noise)
        return self._as_value(value)

    @property
    def mode(self) -> Tensor:
        """The most probable value if it is hard; else an error, for the density is not known."""
        value: Tensor = self.discrete.mode if self.hard else super().mode
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        """An error that says what to do instead."""
        return self._no_density(value, permutation.no_permutation_density(type(self).__name__))
