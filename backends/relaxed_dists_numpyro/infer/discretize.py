"""The discrete model: discrete distributions replace relaxed ones and those with an estimator."""

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from numpyro import handlers
from numpyro.infer.autoguide import AutoGuideList
from numpyro.ops.provenance import eval_provenance
from numpyro.primitives import Messenger

from relaxed_dists._distributions import discrete as _counterparts
from relaxed_dists._infer import discretize as _discretize
from relaxed_dists._infer.discretize import AtAnyTemperature, needs_temperature
from relaxed_dists._infer.paths import same
from relaxed_dists_jax.input import known

from .._adapter import LogitsDistribution
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.constraints import Values
from ..distributions.discrete import Bernoulli, OneHotCategorical
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from ..distributions.permutation import RelaxedPermutation
from ..distributions.sites import discrete, kind, rewrapped
from ..distributions.subset import RelaxedSubset
from .paths import isolated
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


class discretize(Messenger):
    r"""The discrete counterpart of a relaxed model or guide, to be scored by any ELBO.

    This effect handler changes each latent site with a relaxed distribution, or with a discrete
    distribution that has an estimator. The site then draws from the discrete distribution with the
    same logits (for HardConcrete, the Bernoulli distribution of ``z != 0``). A site in log or logit
    space draws the log or the logit of a hard value (0 and -inf, or -inf and inf), from which the
    model computes the hard value. So ``discretize(relax(model, temperature))`` has exactly the
    density of the model.

    Other latent sites and observed sites do not change. The handler also works inside NumPyro's
    ``scan`` and ``cond``.

    The discrete distributions do not depend on a temperature, so a function whose signature takes a
    temperature may be called without one. The first such call refuses the function if anything else
    in it depends on the temperature; if all arguments are traced (under ``jit``), this dependence
    can't be checked.

    Args:
        fn: A model or a guide; or None, for a context manager.

    Raises:
        ValueError: If a site's distribution is a transformed relaxed distribution; or no
            temperature is given, and the function depends on one.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 5, trains relaxed models
        and evaluates their discrete counterparts.

    Example:
        >>> import jax.numpy as jnp
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
        """Replace the distribution of a sample site, or wrap the functions of a scan or cond.

        Handlers outside of a scan get its sites too late: with values, which later steps have used.
        """
        if msg["type"] == "control_flow":
            args = list(msg["args"])
            for place in (0,) if callable(args[0]) else (1, 2):  # the functions of a scan or a cond
                inner = discretize()
                inner.fn, args[place] = args[place], inner
            msg["args"] = tuple(args)
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        if kind(msg["fn"]) in ("relaxed", "estimated"):
            msg["fn"] = rewrapped(
                msg["fn"], lambda base: _discrete(base) or self._refuse(msg["name"])
            )

    def _refuse(self, name: str) -> NoReturn:
        raise _discretize.no_counterpart(name)


def _parts(fn: Any) -> Any:
    return list(fn) if isinstance(fn, AutoGuideList) else ()


def _independent(
    fn: Callable[..., Any], args: Any, kwargs: dict[str, Any], *temperatures: Any
) -> bool:
    """Whether a discrete model or guide has the same draws and densities at two temperatures."""

    def found(temperature: Any) -> Any:
        with isolated():
            # fn is set directly, since __init__ would wrap it in AtAnyTemperature, which calls this
            # function again.
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
        except TypeError:
            pass  # fn calls math.exp or the like, or takes several temperatures
    # The dependence that was found may be false, since for eval_provenance each output of a loop
    # depends on all inputs of the loop. So the numbers are compared.
    with jax.ensure_compile_time_eval():
        # The first temperature runs twice, since the first call of an autoguide draws more than
        # later calls. Only the last two runs are compared.
        runs: list[Any] = [jax.tree.flatten(found(t)) for t in (first, first, second)]
        (one, its_sites), (other, other_sites) = runs[1:]
        if not all(map(known, one + other)):
            return True
        return its_sites == other_sites and same(one, other, np.allclose, 1e-8)
