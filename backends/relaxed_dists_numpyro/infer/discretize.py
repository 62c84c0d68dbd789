"""The discrete model: each relaxed or estimated site replaced by its discrete twin."""

from collections.abc import Callable
from typing import Any, Never

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jax.nn import sigmoid
from jax.scipy.special import logit
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence
from numpyro.infer.autoguide import AutoGuideList
from numpyro.ops.provenance import eval_provenance
from numpyro.primitives import Messenger

from relaxed_dists._infer import discretize as _discretize
from relaxed_dists._infer.discretize import AtAnyTemperature, needs_temperature
from relaxed_dists._infer.paths import same

from .._adapter import LogitsDistribution
from .._jax.input import known
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.constraints import one_hot
from ..distributions.discrete import Bernoulli, OneHotCategorical, _Discrete
from ..distributions.kl import _kl_discrete, _refuse_spaces
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from ..distributions.permutation import RelaxedPermutation
from ..distributions.sites import discrete, kind, rewrapped
from ..distributions.subset import RelaxedSubset
from .paths import alone
from .svi import _unwrap


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

    def enumerate_support(self, expand: bool = True) -> Array:
        """All values. Args and Returns as those of the law of hard values."""
        return self._preimage(super().enumerate_support(expand))

    @property
    def mode(self) -> Array:
        """The most probable value."""
        return self._preimage(super().mode)

    def _theirs(self) -> Any:
        return LogitsDistribution._theirs(self)

    def _checked(self, value: Any, intermediates: list[Any] | None = None) -> Array:
        return super()._checked(self._image(self._check_value(value)), intermediates)

    @property
    def mean(self) -> Never:
        """An error that says that there is none."""
        raise _discretize.no_moments(type(self).__name__)

    variance = mean


class LogOneHotCategorical(_Logarithmic, OneHotCategorical):
    """The law of the log of a one-hot value: 0 at the category, and -inf elsewhere."""

    _image, _preimage = staticmethod(jnp.exp), staticmethod(jnp.log)
    _supports: Any = (_LogOneHot(), None)
    _support_text = "logs of one-hot vectors (shown are the exponentials)"


class LogitBernoulli(_Logarithmic, Bernoulli):
    """The law of the logit of 0 or 1: minus or plus infinity."""

    _image, _preimage = staticmethod(sigmoid), staticmethod(logit)
    _supports: Any = (_LogitBoolean(), None)
    _support_text = "infinite numbers (shown are their sigmoids)"


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

    Discrete laws without an estimator, continuous laws and observed sites stay as they are. The
    sites of NumPyro's ``scan`` and ``cond`` are replaced as others are.

    The discrete distributions do not depend on a temperature, so a function whose signature takes
    one may be called without it. It is then refused if anything else in it depends on one, which
    its first call looks at; where all it gets is traced (under ``jit``) that can't be seen.

    Args:
        fn: A model or a guide; without one the handler is a context manager.

    Raises:
        ValueError: If a site's law is made from a relaxed one by a transform; or no temperature is
            given, and the function depends on it.

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

    def __init__(self, fn: Callable[..., Any] | None = None) -> None:
        if fn is not None and needs_temperature(fn, _unwrap, _parts):
            fn = AtAnyTemperature(fn, _independent)
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Replace the law of a sample site; of those in a scan or cond, inside its functions.

        They come out of it with values that are drawn, and with these the model has gone on.
        """
        if msg["type"] == "control_flow":
            args = list(msg["args"])
            for place in (0,) if callable(args[0]) else (1, 2):  # of a scan, or of a cond
                inner = discretize()
                inner.fn, args[place] = args[place], inner
            msg["args"] = tuple(args)
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        if kind(msg["fn"]) in ("relaxed", "estimated"):
            msg["fn"] = rewrapped(msg["fn"], lambda law: _twin(law) or self._refuse(msg["name"]))

    def _refuse(self, name: str) -> Never:
        raise _discretize.no_twin(name)


def _parts(fn: Any) -> Any:
    return list(fn) if isinstance(fn, AutoGuideList) else ()


def _independent(
    fn: Callable[..., Any], args: Any, kwargs: dict[str, Any], *temperatures: Any
) -> bool:
    """Whether a discrete model or guide draws and scores the same at two temperatures."""

    def found(temperature: Any) -> Any:
        with alone():
            # Around fn itself, so that this is not called again.
            plain = discretize()
            plain.fn = handlers.seed(fn, random.key(0))
            sites = handlers.trace(plain).get_trace(*args, **kwargs, temperature=temperature)
            sites = {k: site for k, site in sites.items() if site["type"] == "sample"}
            return {k: (s["value"], s["fn"].log_prob(s["value"])) for k, s in sites.items()}

    first, second = temperatures
    if isinstance(first, float):
        try:
            depends = eval_provenance(found, temperature=jnp.asarray(first))
            if not any(jax.tree.leaves(depends)):
                return True
        except TypeError:  # Python's own arithmetic, which takes no tracer; or several temperatures
            pass
    # That may be a false alarm: all that comes out of a loop counts as made from all that goes in.
    with jax.ensure_compile_time_eval():
        # Once more at first, since the first call of an autoguide draws more than the later ones.
        runs: list[Any] = [jax.tree.flatten(found(t)) for t in (first, first, second)]
        (one, its_sites), (other, other_sites) = runs[1:]
        if not all(map(known, one + other)):
            return True
        return its_sites == other_sites and same(one, other, np.allclose, 1e-8)
