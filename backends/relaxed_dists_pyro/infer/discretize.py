"""The discrete model: each relaxed or estimated site replaced by its discrete twin."""

from collections.abc import Callable, Sequence
from typing import Any, Never

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuideList
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints, register_kl

from relaxed_dists._infer import discretize as _discretize
from relaxed_dists._infer.discretize import AtAnyTemperature, needs_temperature
from relaxed_dists._infer.paths import same

from .._adapter import LogitsDistribution
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.discrete import Bernoulli, OneHotCategorical, _Discrete
from ..distributions.kl import _kl_discrete, _refuse_spaces
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from ..distributions.permutation import RelaxedPermutation
from ..distributions.sites import discrete, kind, rewrapped
from ..distributions.subset import RelaxedSubset
from .generators import rng_state, same_noise
from .svi import _unwrap


class _Image(constraints.Constraint):
    """The values whose image is in a discrete support."""

    is_discrete = True

    def __init__(self, support: Any, image: Callable[[Tensor], Tensor]) -> None:
        self.event_dim, self._support, self._image = support.event_dim, support, image

    def check(self, value: Tensor) -> Tensor:
        """Whether each image is in the support."""
        return self._support.check(self._image(value))


class _Logarithmic(_Discrete):
    """A law of the log or the logit of hard values: infinite ones, which the model maps back."""

    _image: Callable[[Tensor], Tensor]
    _preimage: Callable[[Tensor], Tensor]

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw. Args and Returns as those of the law of hard values."""
        return self._preimage(super().sample(sample_shape))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values. Args and Returns as those of the law of hard values."""
        return self._preimage(super().enumerate_support(expand))

    @property
    def mode(self) -> Tensor:
        """The most probable value."""
        return self._preimage(super().mode)

    def _theirs(self) -> Any:
        return LogitsDistribution._theirs(self)

    def _checked(self, value: Any) -> Tensor:
        return super()._checked(self._image(self._check_value(value)))

    @property
    def mean(self) -> Never:
        """An error that says that there is none."""
        raise _discretize.no_moments(type(self).__name__)

    variance = mean


class LogOneHotCategorical(_Logarithmic, OneHotCategorical):  # type: ignore[override]
    """The law of the log of a one-hot value: 0 at the category, and -inf elsewhere."""

    _image, _preimage = staticmethod(torch.exp), staticmethod(torch.log)
    _supports: Any = (_Image(constraints.one_hot, torch.exp), None)
    _support_text = "logs of one-hot vectors (shown are the exponentials)"


class LogitBernoulli(_Logarithmic, Bernoulli):
    """The law of the logit of 0 or 1: minus or plus infinity."""

    _image, _preimage = staticmethod(torch.sigmoid), staticmethod(torch.logit)
    _supports: Any = (_Image(constraints.boolean, torch.sigmoid), None)
    _support_text = "infinite numbers (shown are their sigmoids)"


for _log, _hard in ((LogOneHotCategorical, OneHotCategorical), (LogitBernoulli, Bernoulli)):
    register_kl(_log, _log)(_kl_discrete)
    register_kl(_log, _hard)(_refuse_spaces)
    register_kl(_hard, _log)(_refuse_spaces)


def _twin(law: Any) -> Any:
    if isinstance(law, ExpRelaxedOneHotCategorical):
        return law._twin(LogOneHotCategorical)
    if isinstance(law, LogitRelaxedBernoulli):
        return law._twin(LogitBernoulli)
    if isinstance(law, RelaxedSubset | RelaxedPermutation):
        return law.discrete
    return discrete(law)


class _Discretize(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and kind(msg["fn"]) in ("relaxed", "estimated"):
            msg["fn"] = rewrapped(msg["fn"], lambda law: _twin(law) or self._refuse(msg["name"]))

    def _refuse(self, name: str) -> Never:
        raise _discretize.no_twin(name)


def discretize(fn: Callable[..., Any] | None = None) -> Any:
    r"""The discrete model or guide of a relaxed one, under which any ELBO scores it.

    An effect handler. Each latent site that draws from a relaxed law, or from a discrete one with
    an estimator, draws from its discrete twin instead: the one-hot or Bernoulli law with the same
    logits. In the place of a law of logs or logits stands the law of the log or the logit of the
    hard value (0 and -inf, or -inf and inf), so that what the model computes from it is hard. So
    ``discretize(relax(model, temperature))`` scores exactly what the model does.

    Discrete laws without an estimator, continuous laws and observed sites stay as they are.

    The discrete distributions do not depend on a temperature, so a function whose signature takes
    one may be called without it. It is then refused if anything else in it depends on one, which
    its first call looks at.

    Args:
        fn: A model or a guide; without one the handler is a context manager.

    Returns:
        The model or the guide with its sites replaced.

    Raises:
        ValueError: If a site's law is made from a relaxed one by a transform; or no temperature is
            given, and the function depends on it.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 5: relaxed models are
        trained, and their discrete ones evaluated.

    Example:
        >>> import pyro
        >>> from relaxed_dists.pyro import RelaxedOneHotCategorical
        >>> _ = torch.manual_seed(0)
        >>> def guide():
        ...     return pyro.sample("z", RelaxedOneHotCategorical(0.5, logits=torch.zeros(3)))
        >>> sorted(discretize(guide)().tolist())
        [0.0, 0.0, 1.0]
    """
    handler = _Discretize()
    if fn is None:
        return handler
    if needs_temperature(fn, _unwrap, lambda fn: fn if isinstance(fn, AutoGuideList) else ()):
        fn = AtAnyTemperature(fn, _independent)
    return handler(fn)


@torch.no_grad()
def _independent(
    fn: Callable[..., Any], args: Any, kwargs: dict[str, Any], *temperatures: Any
) -> bool:
    """Whether a discrete model or guide draws and scores the same at two temperatures."""
    state, found = rng_state(), []
    with poutine.block():
        # Once more at first, since the first call of an autoguide draws more than the later ones.
        for temperature in (temperatures[0], *temperatures):
            with same_noise(state):
                trace = poutine.trace(_Discretize()(fn))
                nodes = trace.get_trace(*args, **kwargs, temperature=temperature)
            nodes.compute_log_prob()
            sites = [site for site in nodes.nodes.values() if site["type"] == "sample"]
            found.append([torch.as_tensor(s[k]) for s in sites for k in ("value", "log_prob")])
    return same(found[1], found[2], torch.allclose, 1e-8)
