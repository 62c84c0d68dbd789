"""The hard concrete distribution: a relaxed Bernoulli sample, stretched and clipped to [0, 1]."""

import functools
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.kl import kl_divergence

from relaxed_dists._distributions import hard_concrete
from relaxed_dists._distributions.divergences import check_shapes

from .._adapter import in_relaxed_elbo
from .._jax.carrier import attach, found
from .._jax.input import known
from .._jax.ops import compute_dtype, ops
from .bernoulli import _RelaxedBinary
from .constraints import no_transform
from .discrete import Bernoulli
from .kl import _SPACES, _refuse_spaces


class _Gates(type(constraints.unit_interval)):  # type: ignore[misc]
    """The unit interval with masses at its ends, which no unconstrained density has."""


@biject_to.register(_Gates)
def _no_transform(constraint: Any) -> Any:
    return no_transform(hard_concrete.no_transform())


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(formula: Any, stretch: Any, *parameters: Array) -> Any:
    return formula(ops, *parameters, stretch)


class HardConcrete(_RelaxedBinary):
    r"""The hard concrete distribution on [0, 1]: a gate that is shut, open or in between.

    With L standard logistic, :math:`y = (\theta + L) / \tau` and
    :math:`z = \min(1, \max(0, \mathrm{sigmoid}(y) (\zeta - \gamma) + \gamma))`. It has masses

    .. math::
        P(z = 0) &= \mathrm{sigmoid}(\tau \log(-\gamma / \zeta) - \theta) \\
        P(z = 1) &= \mathrm{sigmoid}(\theta - \tau \log((1 - \gamma) / (\zeta - 1)))

    and between them, with :math:`y = \log(z - \gamma) - \log(\zeta - z)` and
    :math:`d = \theta - \tau y`, the density

    .. math::
        \log q(z) = \log\tau + d - 2 \log(1 + e^d)
        + \log(\zeta - \gamma) - \log(z - \gamma) - \log(\zeta - z).

    A value's density needs its number alone, since z never comes near :math:`\gamma` or
    :math:`\zeta`. But the log density jumps at 0 and 1, and the gradient of samples that are
    clipped there does not see mass move across. So a draw keeps the masses of its law behind it
    (while the same object lives), and ``log_prob`` of it, in the guide and in the model, adds what
    is missing: the gradient of ``Trace_ELBO`` is unbiased. An ELBO whose gradient would miss it,
    since it has a copy of the draw, is refused. The gradients of bounds that are not linear in the
    log density, such as Renyi's, stay biased. ``TraceMeanField_ELBO`` takes the KL divergence
    exactly.

    An infinite logit (probs of exactly 0 or 1) is a point mass at 0 or 1.

    Args:
        temperature: :math:`\tau > 0`: a number, or of a shape that broadcasts with the batch shape.
        probs: Probabilities of one before temperature and stretching, from 0 to 1.
        logits: :math:`\theta`, of the batch shape. Exactly one of probs and logits.
        low: :math:`\gamma < 0`, a Python number.
        high: :math:`\zeta > 1`, a Python number.
        validate_args: Whether to check arguments and values; by default as NumPyro's setting is.

    Raises:
        ValueError: If a parameter, or the value of ``log_prob``, is out of its range.

    Reference:
        Louizos, Welling, Kingma, *Learning Sparse Neural Networks through L0 Regularization*
        (2018), section 2.2.

    Example:
        >>> d = HardConcrete(2 / 3, logits=jnp.array([-5.0, 0.0, 5.0]))
        >>> d.prob_nonzero  # the paper's penalty
        Array([0.03225164, 0.8318222 , 0.9986396 ], dtype=float32)
        >>> d.deterministic
        Array([0. , 0.5, 1. ], dtype=float32)
        >>> d.sample(jax.random.key(4))
        Array([0.       , 0.7529471, 1.       ], dtype=float32)
    """

    support = _Gates()

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        *,
        low: float = -0.1,
        high: float = 1.1,
        validate_args: bool | None = None,
    ) -> None:
        self._stretch = hard_concrete.stretch(type(self).__name__, low, high)
        super().__init__(temperature, probs, logits, validate_args=validate_args)

    @property
    def low(self) -> float:
        """The lower end of the stretched interval."""
        return self._stretch.low

    @property
    def high(self) -> float:
        """The upper end of the stretched interval."""
        return self._stretch.high

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """Logits, temperature and no estimator are the leaves."""
        leaves, validate = super().tree_flatten()
        return leaves, (validate, self._stretch)

    @classmethod
    def tree_unflatten(cls, aux_data: Any, params: tuple[Any, ...]) -> Self:
        """The law with the given leaves, unchecked."""
        new = super().tree_unflatten(aux_data[0], params)
        new._stretch = aux_data[1]
        return new

    @property
    def discrete(self) -> Bernoulli:
        """The Bernoulli law of whether the value is not 0."""
        new = self._twin(Bernoulli)
        logits, temperature = self._parameters()
        new.logits = (logits - temperature * self._stretch.zero).astype(self._dtype())
        return new

    def _at(self, logit: Array) -> Array:
        dtype = self._dtype()
        finfo = jnp.finfo(dtype)
        tiny, eps = float(finfo.tiny), float(finfo.eps)
        return hard_concrete.hard_concrete(ops, logit, self._stretch, tiny, eps).astype(dtype)

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Any]]:
        """Draw with a gradient to the parameters, which is 0 where the value is 0 or 1.

        Args:
            key: A JAX random key.
            sample_shape: The shape of independent draws.

        Returns:
            Numbers in [0, 1] of shape ``sample_shape + batch_shape``.
            And the intermediates that its density's gradient uses.
        """
        value = self._at(self._logit_value(key, sample_shape))
        masses = self._of(hard_concrete.masses)
        return attach(value, masses, "masses"), [masses]

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        """The log of the mass at 0 or 1, or of the density in between.

        Args:
            value: Numbers in [0, 1], of a shape that broadcasts with the batch shape.
            intermediates: What :meth:`sample_with_intermediates` returned with the value.

        Returns:
            Of shape ``sample_shape + batch_shape``, in float32 or better.
        """
        moved = found(value, intermediates, "masses")
        value = self._within(self._check_value(value))
        dtype = self.temperature.dtype
        # In its own precision, if that is more: it says how far from the ends it is.
        value = value.astype(compute_dtype(self.temperature, value))
        density = self._of(hard_concrete.log_prob, value).astype(dtype)
        if moved is None and not known(value) and self._validate_args and in_relaxed_elbo():
            raise hard_concrete.lost(type(self).__name__)
        if moved is not None:
            density = density + self._of(hard_concrete.crossing, moved.astype(dtype))
        return density

    def _within(self, value: Array) -> Array:
        if self._validate_args:
            fine = (value >= 0) & (value <= 1)
            self._refuse(value, fine, "numbers from 0 to 1", "Clip them.")
        return value.astype(compute_dtype(value))

    def cdf(self, value: Any) -> Array:
        """The probability of at most the value: the mass of 0 at 0, and 1 at 1.

        Args:
            value: Numbers in [0, 1], of a shape that broadcasts with the batch shape.

        Returns:
            Probabilities of shape ``sample_shape + batch_shape``.
        """
        value = self._within(self._check_value(value))
        value = value.astype(self.temperature.dtype)
        return self._of(hard_concrete.cdf, value).astype(self._dtype())

    def icdf(self, q: Any) -> Array:
        """The quantile of a probability: the smallest value whose cdf is q or more.

        Args:
            q: Probabilities from 0 to 1, of a shape that broadcasts with the batch shape.

        Returns:
            Numbers in [0, 1] of shape ``sample_shape + batch_shape``.

        Raises:
            ValueError: If q is not a probability.
        """
        return self._at(self._icdf(q))

    def _of(self, formula: Any, *more: Array) -> Any:
        return _compiled(formula, self._stretch, *self._parameters(), *more)

    @property
    def prob_nonzero(self) -> Array:
        """The probability that the value is not 0, whose sum over gates is the L0 penalty."""
        return self._of(hard_concrete.prob_nonzero).astype(self._dtype())

    @property
    def prob_one(self) -> Array:
        """The probability that the value is 1."""
        return self._of(hard_concrete.prob_one).astype(self._dtype())

    @property
    def deterministic(self) -> Array:
        """The paper's value at test time, clip(sigmoid(logits) (high - low) + low, 0, 1)."""
        return self._at(self._parameters()[0])

    @property
    def mean(self) -> Array:
        """The mean, of the batch shape, by quadrature to 1e-6 (1e-10 in float64)."""
        return self._of(hard_concrete.moments)[0].astype(self._dtype())

    @property
    def variance(self) -> Array:
        """The variance, of the batch shape, by quadrature as exact as the mean's."""
        return self._of(hard_concrete.moments)[1].astype(self._dtype())

    @property
    def mode(self) -> Array:
        """An error that says why there is none."""
        raise hard_concrete.no_mode(type(self).__name__)

    def entropy(self) -> Array:
        """Minus the mean of log_prob, of the batch shape: by quadrature, to 1e-6 of its size."""
        return self._of(hard_concrete.entropy)


def _kl_hard_concrete(p: HardConcrete, q: HardConcrete) -> Array:
    check_shapes(p, q)
    if p._stretch != q._stretch:
        raise hard_concrete.unlike_stretches(p._stretch[:2], q._stretch[:2])
    dtype = compute_dtype(p.logits, q.logits)
    parameters = [x.astype(dtype) for x in (*p._parameters(), *q._parameters())]
    shape = jnp.broadcast_shapes(p.batch_shape, q.batch_shape)
    parameters = [jnp.broadcast_to(x, shape) for x in parameters]
    return _compiled(hard_concrete.kl, p._stretch, *parameters)


kl_divergence.add((HardConcrete, HardConcrete), _kl_hard_concrete)
for _space in _SPACES:
    kl_divergence.add((HardConcrete, _space), _refuse_spaces)
    kl_divergence.add((_space, HardConcrete), _refuse_spaces)
