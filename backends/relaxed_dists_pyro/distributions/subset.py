"""Subsets of k categories: the relaxed law, and the discrete one."""

from collections.abc import Sequence
from typing import Any, Never

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to

from relaxed_dists._distributions import formulas, permutation, subset

from .._adapter import LogitsDistribution, RelaxedDistribution
from .._torch.ops import compute_dtype, ops
from .._torch.state import holds
from .constraints import tolerance


class _KHot(constraints.Constraint):
    """Vectors of k ones and otherwise zeros."""

    event_dim = 1
    is_discrete = True

    def __init__(self, k: int) -> None:
        self.k = k

    def __repr__(self) -> str:
        return f"{type(self).__name__[1:]}(k={self.k})"

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector is k-hot."""
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == self.k)


class _RelaxedKHot(_KHot):
    """Vectors of numbers from 0 up that sum to k."""

    is_discrete = False

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector is one, to rounding."""
        slack = self.k * tolerance(value.dtype, value.shape[-1])
        return (value >= 0).all(-1) & ((value.sum(-1) - self.k).abs() <= slack)


@biject_to.register(_RelaxedKHot)
@transform_to.register(_RelaxedKHot)
def _no_transform(constraint: constraints.Constraint) -> Never:
    raise permutation.no_transform("RelaxedSubset")


class _OfSize(LogitsDistribution):
    """A law with a number k of categories, which is checked with its logits."""

    k: int

    def _set_size(self, k: Any) -> None:
        """Check k, when all else is set."""
        self.k = subset.size(type(self).__name__, k, self.event_shape[-1])
        if self._validate_args:
            kept = (self.logits > -formulas.HUGE).sum(-1)
            if not holds(kept >= self.k):
                raise subset.too_few(type(self).__name__, self.k, self.logits)


class Subset(_OfSize):
    r"""The law of k categories drawn without replacement: k-hot vectors.

    The k largest of :math:`\theta + G`, with :math:`G` Gumbel noise: categories are drawn one after
    the other, each with probabilities proportional to :math:`w = \exp\theta` among those left, and
    their order is forgotten. With W the sum of w outside S,

    .. math:: P(S) = \int_0^1 \prod_{i \in S} \left(1 - u^{w_i / W}\right) du.

    A masked category is never in S. Where masks that can't be looked at leave fewer than k
    categories, the value has all of them.

    Args:
        k: The number of categories to draw, a Python number from 1 to K.
        probs: Weights w of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        validate_args: Whether to check arguments and values; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Kool, van Hoof, Welling, *Estimating Gradients for Discrete Random Variables by Sampling
        without Replacement* (2020), appendix B.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> d = Subset(2, logits=torch.zeros(4))
        >>> sorted(d.sample().tolist())
        [0.0, 0.0, 1.0, 1.0]
        >>> round(d.log_prob(torch.tensor([1.0, 1.0, 0.0, 0.0])).exp().item(), 4)  # one of six
        0.1667
    """

    has_enumerate_support = True
    _static = ("k",)

    def __init__(
        self,
        k: int | None = None,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, None, validate_args)
        self._set_size(k)

    @property
    def support(self) -> _KHot:
        """k-hot vectors."""
        return _KHot(self.k)

    @property
    def discrete(self) -> "Subset":
        """The same law."""
        return self

    def _compute_logits(self) -> Tensor:
        return self.logits.to(compute_dtype(self.logits))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw k-hot values of shape ``sample_shape + batch_shape + (K,)``.

        Args:
            sample_shape: The shape of independent draws.
        """
        with torch.no_grad():
            logits = self._compute_logits()
            noise = self._noise(sample_shape, logits)
            return subset.hardest(ops, logits, noise, self.k).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log mass, by quadrature to 1e-6 of its size (1e-12 in float64).

        It has a gradient to the logits, and none to the value.

        Args:
            value: k-hot vectors of shape ``(..., K)``.

        Returns:
            Log masses of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        value = self._check_value(value)
        if self._validate_args:
            remedy = "Round a relaxed value, or draw it with hard=True."
            self._refuse(value, self.support.check(value), f"{self.k}-hot vectors", remedy)
        logits = self._compute_logits()
        return subset.log_prob(ops, self.k, logits, value.detach().to(logits.dtype))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All C(K, k) values, of shape ``(C,) + batch_shape + (K,)``.

        Args:
            expand: Whether to expand them to the batch shape, or leave ones there.

        Raises:
            NotImplementedError: If there are more than a million.
        """
        categories = self.event_shape[-1]
        values = ops.constant(subset.support("Subset", self.k, categories), self.logits)
        values = values.reshape(-1, *(1,) * len(self.batch_shape), categories)
        return values.expand(-1, *self.batch_shape, -1) if expand else values

    def _included(self) -> Tensor:
        p: Tensor = subset.inclusion(ops, self.k, self._compute_logits())
        return p

    @property
    def mean(self) -> Tensor:
        """The probability of each category to be in the subset, which its probs are not.

        By quadrature, to 1e-6 (1e-12 in float64); up to 100 categories in float32, beyond to 1e-5.
        """
        return self._included().to(self.logits.dtype)

    @property
    def variance(self) -> Tensor:
        """p (1 - p) for each entry, p the mean."""
        p = self._included()
        return (p * (1 - p)).to(self.logits.dtype)

    def entropy(self) -> Tensor:
        """The entropy, of the batch shape: a sum over all C(K, k) values, exact as their log_prob.

        Raises:
            NotImplementedError: If there are more than a million values.
        """
        logits = self._compute_logits()
        every = subset.support("Subset", self.k, self.event_shape[-1])
        entropy: Tensor = subset.entropy(ops, self.k, logits, ops.constant(every, logits))
        return entropy

    @property
    def mode(self) -> Tensor:
        """The most probable value, that of the k largest logits."""
        return subset.hardest(ops, self._compute_logits(), 0.0, self.k).to(self.logits.dtype)


class RelaxedSubset(_OfSize, RelaxedDistribution):
    r"""A relaxed k-hot vector: k rounds of softmax, each of what the others have left.

    With scores :math:`s = \theta + G` and :math:`G` Gumbel noise, k times
    :math:`a = \mathrm{softmax}(s / \tau)` and then :math:`s \leftarrow s + \log(1 - a)`; the value
    is the sum of all a. Its entries are at least 0 and sum to k, but one may exceed 1 (at most
    about 1.5 for k = 2, more for larger k). As the temperature falls the value tends to the k-hot
    vector of the k largest scores, a draw of :class:`Subset`.

    A masked category's entry is 0. Where k categories are left, their entries are 1; where masks
    that can't be looked at leave fewer, too.

    The density is not known: ``log_prob`` raises an error, and in an ELBO the law stands as
    ``sample("z", law.mask(False))``, which counts as 0. With k=1 the value is that of
    :class:`RelaxedOneHotCategorical`, which has a density.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        k: The number of categories, a Python number from 1 to K.
        probs: Weights of shape ``(..., K)``, at least 0; they are normalised.
        logits: :math:`\theta` of shape ``(..., K)``, any real numbers up to a constant a row; -inf
            masks a category. Exactly one of probs and logits.
        hard: Whether the value is the k-hot vector, with the gradient of the relaxed one.
        validate_args: Whether to check arguments; by default as Pyro's setting is.

    Raises:
        ValueError: If a parameter is out of its range.
        NotImplementedError: By ``log_prob``.

    Reference:
        Xie, Ermon, *Reparameterizable Subset Sampling via Continuous Relaxations* (2019),
        algorithm 1.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> z = RelaxedSubset(0.5, 2, logits=torch.zeros(4)).rsample()
        >>> round(z.sum().item(), 4)
        2.0
        >>> sorted(RelaxedSubset(0.5, 2, logits=torch.zeros(4), hard=True).rsample().tolist())
        [0.0, 0.0, 1.0, 1.0]
    """

    arg_constraints = {
        "temperature": constraints.positive,
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }
    _static = ("k", "hard")

    def __init__(
        self,
        temperature: Any,
        k: int,
        probs: Any = None,
        logits: Any = None,
        hard: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        RelaxedDistribution.__init__(self, temperature, probs, logits, validate_args)
        self.hard = hard
        self._set_size(k)

    @property
    def support(self) -> _KHot:
        """Vectors that sum to k, or k-hot ones; no transform leads to them."""
        return _RelaxedKHot(self.k)

    @property
    def discrete(self) -> Subset:
        """The discrete law with the same logits and k."""
        twin: Subset = self._twin(Subset)
        return twin

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with a gradient to the parameters.

        Args:
            sample_shape: The shape of independent draws.

        Returns:
            Vectors that sum to k, of shape ``sample_shape + batch_shape + (K,)``.
        """
        logits, temperature = self._parameters()
        noise = self._noise(sample_shape, logits)
        value = subset.relaxed(ops, self.k, self.hard, logits, temperature, noise)
        return self._as_value(value)

    @property
    def mean(self) -> Tensor:
        """The mean if the value is hard, that of Subset; else an error, for it is not known."""
        mean: Tensor = self.discrete.mean if self.hard else super().mean
        return mean

    @property
    def variance(self) -> Tensor:
        """The variance if the value is hard, that of Subset; else an error, for it is not known."""
        variance: Tensor = self.discrete.variance if self.hard else super().variance
        return variance

    @property
    def mode(self) -> Tensor:
        """The most probable value if it is hard; else an error, for the density is not known."""
        mode: Tensor = self.discrete.mode if self.hard else super().mode
        return mode

    def log_prob(self, value: Tensor) -> Tensor:
        """An error that says what to do instead."""
        return self._no_density(value, subset.no_subset_density(type(self).__name__))
