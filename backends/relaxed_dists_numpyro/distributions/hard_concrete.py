"""The hard concrete distribution: a relaxed Bernoulli sample, stretched and clipped to [0, 1]."""

from jax import Array

from relaxed_dists._distributions import hard_concrete
from relaxed_dists._ops import ArrayLike

from .bernoulli import _RelaxedBinary
from .constraints import Values


class HardConcrete(_RelaxedBinary):
    """The hard concrete distribution on [0, 1]: a gate that is shut, open or in between.

    A sample is ``z = clip(sigmoid(y) * (high - low) + low, 0, 1)``, with
    ``y = (logits + L) / temperature`` and standard logistic noise L. For logits theta and
    temperature tau, the values 0 and 1 have the probabilities ::

        P(z = 0) = sigmoid(tau log(-low / high) - theta)

        P(z = 1) = sigmoid(theta - tau log((1 - low) / (high - 1)))

    and the values between have, with ``y = log(z - low) - log(high - z)`` and
    ``d = logits - temperature * y``, the log density ::

        log q(z) = log(tau) + d - 2 log(1 + exp(d))
                   + log(high - low) - log(z - low) - log(high - z)

    The density is exact for any value, since z, from 0 to 1, is never near ``low`` or ``high``. But
    the log density jumps at 0 and 1, and the pathwise gradient of clipped samples misses the
    probability that moves across these jumps. So a draw keeps its distribution's probabilities of 0
    and 1 (while the same object lives). With them, ``log_prob`` of the draw in guide and model adds
    the missing gradient, so that the gradient of ``Trace_ELBO`` is unbiased. A copy of the draw
    lacks these probabilities, so an ELBO refuses the copy: the gradient would be biased. The
    gradients of bounds that are not linear in the log density, such as Renyi's, stay biased.
    ``TraceMeanField_ELBO`` computes the KL divergence exactly.

    With an infinite logit (probs of exactly 0 or 1) the distribution is a point mass at 0 or 1.

    Args:
        temperature: Positive, a number or numbers that broadcast with the batch shape.
        probs: Probabilities from 0 to 1, the sigmoid of the logits, of the batch shape.
        logits: Real numbers of the batch shape. Give either probs or logits.
        low: A Python number below 0.
        high: A Python number above 1.
        validate_args: Whether to check arguments and values; by default NumPyro's setting.

    Raises:
        ValueError: If not exactly one of probs and logits is given, a parameter is out of its
            range, or ``log_prob`` gets a value off the support.

    Reference:
        Louizos, Welling, Kingma, *Learning Sparse Neural Networks through L0 Regularization*
        (2018), section 2.2.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> d = HardConcrete(2 / 3, logits=jnp.array([-5.0, 0.0, 5.0]))
        >>> d.prob_nonzero  # the paper's penalty
        Array([0.03225164, 0.8318222 , 0.9986396 ], dtype=float32)
        >>> d.deterministic
        Array([0. , 0.5, 1. ], dtype=float32)
        >>> (d.sample(jax.random.key(4), (10_000,)) == 0).mean(0).round(1)
        Array([1. , 0.2, 0. ], dtype=float32)
    """

    _family = hard_concrete.HardConcrete(hard_concrete.stretch("HardConcrete", -0.1, 1.1))
    support = Values(_family)

    def __init__(
        self,
        temperature: ArrayLike,
        probs: ArrayLike | None = None,
        logits: ArrayLike | None = None,
        *,
        low: float = -0.1,
        high: float = 1.1,
        validate_args: bool | None = None,
    ) -> None:
        stretch = hard_concrete.stretch(type(self).__name__, low, high)
        self._family = hard_concrete.HardConcrete(stretch)
        super().__init__(temperature, probs, logits, validate_args=validate_args)

    @property
    def low(self) -> float:
        """The lower end of the stretched interval."""
        return self._family.stretch.low

    @property
    def high(self) -> float:
        """The upper end of the stretched interval."""
        return self._family.stretch.high

    @property
    def prob_nonzero(self) -> Array:
        """The probability that the value is not 0. Its sum over all gates is the L0 penalty."""
        return self._as_value(self._of("prob_nonzero"))

    @property
    def prob_one(self) -> Array:
        """The probability that the value is 1."""
        return self._as_value(self._of("prob_one"))

    @property
    def deterministic(self) -> Array:
        """The paper's value at test time, clip(sigmoid(logits) (high - low) + low, 0, 1)."""
        return self._as_value(self._of("deterministic"))
