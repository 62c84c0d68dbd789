"""The discrete model: discrete distributions replace relaxed ones and those with an estimator."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuideList
from pyro.poutine.messenger import Messenger

from relaxed_dists._distributions import discrete as _counterparts
from relaxed_dists._infer import discretize as _discretize
from relaxed_dists._infer.discretize import AtAnyTemperature, needs_temperature
from relaxed_dists._infer.paths import same

from .._adapter import LogitsDistribution
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.constraints import Values
from ..distributions.discrete import Bernoulli, OneHotCategorical
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from ..distributions.permutation import RelaxedPermutation
from ..distributions.sites import discrete, kind, rewrapped
from ..distributions.subset import RelaxedSubset
from .generators import rng_state, same_noise
from .svi import _unwrap


class LogOneHotCategorical(OneHotCategorical):
    """The distribution of the log of a one-hot value: 0 at one category, -inf at the others."""

    _family = _counterparts.LogOneHot()
    _hard_support = Values(_family)

    def _for_funsor(self) -> Any:
        return LogitsDistribution._for_funsor(self)


class LogitBernoulli(Bernoulli):
    """The distribution of the logit of 0 or 1: minus or plus infinity."""

    _family = _counterparts.LogitBernoulli()
    _hard_support = Values(_family)

    def _for_funsor(self) -> Any:
        return LogitsDistribution._for_funsor(self)


def _discrete(base: Any) -> Any:
    if isinstance(base, ExpRelaxedOneHotCategorical):
        return base._as_discrete(LogOneHotCategorical)
    if isinstance(base, LogitRelaxedBernoulli):
        return base._as_discrete(LogitBernoulli)
    if isinstance(base, RelaxedSubset | RelaxedPermutation):
        return base.discrete
    return discrete(base)


class _Discretize(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and kind(msg["fn"]) in ("relaxed", "estimated"):
            msg["fn"] = rewrapped(
                msg["fn"], lambda base: _discrete(base) or self._refuse(msg["name"])
            )

    def _refuse(self, name: str) -> NoReturn:
        raise _discretize.no_counterpart(name)


def discretize(fn: Callable[..., Any] | None = None) -> Any:
    r"""The discrete counterpart of a relaxed model or guide, to be scored by any ELBO.

    This effect handler changes each latent site with a relaxed distribution, or with a discrete
    distribution that has an estimator. The site then draws from the discrete distribution with the
    same logits (for HardConcrete, the Bernoulli distribution of ``z != 0``). A site in log or logit
    space draws the log or the logit of a hard value (0 and -inf, or -inf and inf), from which the
    model computes the hard value. So ``discretize(relax(model, temperature))`` has exactly the
    density of the model.

    Other latent sites and observed sites do not change.

    The discrete distributions do not depend on a temperature, so a function whose signature takes a
    temperature may be called without one. The first such call refuses the function if anything else
    in it depends on the temperature.

    Args:
        fn: A model or a guide; or None, for a context manager.

    Returns:
        The model or the guide with its sites replaced.

    Raises:
        ValueError: If a site's distribution is a transformed relaxed distribution; or no
            temperature is given, and the function depends on one.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 5, trains relaxed models
        and evaluates their discrete counterparts.

    Example:
        >>> import pyro
        >>> import torch
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
    """Whether a discrete model or guide has the same draws and densities at two temperatures."""
    state, found = rng_state(), []
    with poutine.block():
        # The first temperature runs twice, since the first call of an autoguide draws more than
        # later calls. Only the last two runs are compared.
        for temperature in (temperatures[0], *temperatures):
            with same_noise(state):
                trace = poutine.trace(_Discretize()(fn))
                nodes = trace.get_trace(*args, **kwargs, temperature=temperature)
            nodes.compute_log_prob()
            sites = [site for site in nodes.nodes.values() if site["type"] == "sample"]
            found.append([torch.as_tensor(s[k]) for s in sites for k in ("value", "log_prob")])
    return same(found[1], found[2], torch.allclose, 1e-8)
