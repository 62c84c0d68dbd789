"""The discrete model: each relaxed or estimated site replaced by its discrete twin."""

from collections.abc import Callable
from typing import Any, Never

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid
from jax.scipy.special import logit
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence
from numpyro.primitives import Messenger

from relaxed_dists import _errors_inference as _errors

from ._constraints import one_hot
from ._discrete import Bernoulli, OneHotCategorical, _Discrete
from ._kl import _kl_discrete, _refuse_spaces
from ._permutation import RelaxedPermutation
from ._relaxed_bernoulli import LogitRelaxedBernoulli
from ._relaxed_categorical import ExpRelaxedOneHotCategorical
from ._sites import discrete, kind, rewrapped
from ._subset import RelaxedSubset


class _LogOneHot(constraints._SingletonConstraint):
    """The logs of one-hot vectors."""

    event_dim = 1
    is_discrete = True

    def __call__(self, x: Array) -> Array:
        """Whether each vector's exponentials are one-hot."""
        return one_hot(jnp.exp(x))

    def feasible_like(self, prototype: Array) -> Array:
        """The first category."""
        return jnp.log(one_hot.feasible_like(prototype))


class _LogitBoolean(constraints._SingletonConstraint):
    """Minus and plus infinity."""

    is_discrete = True

    def __call__(self, x: Array) -> Array:
        """Whether each number is infinite."""
        return jnp.isinf(x)

    def feasible_like(self, prototype: Array) -> Array:
        """Minus infinity."""
        return jnp.full_like(prototype, -jnp.inf)


class _Logarithmic(_Discrete):
    """A law of the log or the logit of hard values: infinite ones, which the model maps back."""

    _image: Callable[[Array], Array]
    _preimage: Callable[[Array], Array]
    _counts = False

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw. Args and Returns as those of the law of hard values."""
        return self._preimage(super().sample(key, sample_shape))

    def _checked(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        return super()._checked(self._image(self._check_value(value)), intermediates)

    @property
    def mean(self) -> Never:
        """An error that says that there is none."""
        raise _errors.no_moments(type(self).__name__)

    variance = mean


class LogOneHotCategorical(_Logarithmic, OneHotCategorical):
    """The law of the log of a one-hot value: 0 at the category, and -inf elsewhere."""

    _image, _preimage = staticmethod(jnp.exp), staticmethod(jnp.log)
    _supports: Any = (_LogOneHot(), None)
    _support_text = "logs of one-hot vectors (shown are the exponentials)"

    def enumerate_support(self, expand: bool = True) -> Array:
        """All values. Args and Returns as those of the law of hard values."""
        return jnp.log(super().enumerate_support(expand))

    @property
    def mode(self) -> Array:
        """The most probable value."""
        return jnp.log(super().mode)


class LogitBernoulli(_Logarithmic, Bernoulli):
    """The law of the logit of 0 or 1: minus or plus infinity."""

    _image, _preimage = staticmethod(sigmoid), staticmethod(logit)
    _supports: Any = (_LogitBoolean(), None)
    _support_text = "infinite numbers (shown are their sigmoids)"

    def enumerate_support(self, expand: bool = True) -> Array:
        """Both values. Args and Returns as those of the law of hard values."""
        return logit(super().enumerate_support(expand))

    @property
    def mode(self) -> Array:
        """The more probable value."""
        return logit(super().mode)


for _log, _hard in ((LogOneHotCategorical, OneHotCategorical), (LogitBernoulli, Bernoulli)):
    kl_divergence.add((_log, _log), _kl_discrete)
    kl_divergence.add((_log, _hard), _refuse_spaces)
    kl_divergence.add((_hard, _log), _refuse_spaces)


def _twin(law: Any) -> Any:
    if isinstance(law, ExpRelaxedOneHotCategorical):
        return law._twin(LogOneHotCategorical)
    if isinstance(law, LogitRelaxedBernoulli):
        return law._twin(LogitBernoulli)
    if isinstance(law, RelaxedSubset | RelaxedPermutation):
        return law.discrete
    return discrete(law)


class discretize(Messenger):
    r"""The discrete model or guide of a relaxed one, under which any ELBO scores it.

    An effect handler. Each latent site that draws from a relaxed law, or from a discrete one with
    an estimator, draws from its discrete twin instead: the one-hot or Bernoulli law with the same
    logits. In the place of a law of logs or logits stands the law of the log or the logit of the
    hard value (0 and -inf, or -inf and inf), so that what the model computes from it is hard. So
    ``discretize(relax(model, temperature))`` scores exactly what the model does.

    Discrete laws without an estimator, continuous laws and observed sites stay as they are.

    Args:
        fn: A model or a guide; without one the handler is a context manager.

    Raises:
        ValueError: If a site's law is made from a relaxed one by a transform.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 5: relaxed models are
        trained, and their discrete ones evaluated.

    Example:
        >>> import numpyro
        >>> from jax import random
        >>> from relaxed_dists.numpyro import RelaxedOneHotCategorical
        >>> def guide():
        ...     return numpyro.sample("z", RelaxedOneHotCategorical(0.5, logits=jnp.zeros(3)))
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     sorted(discretize(guide)().tolist())
        [0.0, 0.0, 1.0]
    """

    def process_message(self, msg: dict[str, Any]) -> None:
        """Replace the law of a sample site."""
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        if kind(msg["fn"]) in ("relaxed", "estimated"):
            msg["fn"] = rewrapped(msg["fn"], lambda law: _twin(law) or self._refuse(msg["name"]))

    def _refuse(self, name: str) -> Never:
        raise _errors.no_twin(name)
