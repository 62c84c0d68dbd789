"""The handlers that relax the discrete sites of a model, without a change to the model."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import pyro
import pyro.distributions as dist
from pyro.infer.autoguide.initialization import InitMessenger, init_to_value
from pyro.infer.reparam.reparam import Reparam
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.messenger import Messenger, _bound_partial
from pyro.poutine.reparam_messenger import ReparamMessenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

from relaxed_dists._infer import paths
from relaxed_dists._infer import relax as _relax
from relaxed_dists._infer.relax import Chosen, constrained
from relaxed_dists_torch.ops import ops

from .._adapter import RelaxedDistribution
from ..distributions import sites
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from .paths import check_relaxed

_CLASSES = ExpRelaxedOneHotCategorical, LogitRelaxedBernoulli
NEAR = 0.01  # initial values are moved this far away from 0 and 1, where logs are infinite


def _given(handler: Any) -> tuple[str, Any]:
    """A handler's name, and the names of the sites whose values the handler sets."""
    if isinstance(handler, ConditionMessenger):
        nodes = getattr(handler.data, "nodes", None)  # handler.data may be a trace
        data: Any = handler.data if nodes is None else {k: v.get("value") for k, v in nodes.items()}
        return "condition", {k for k, v in data.items() if v is not None}
    if isinstance(handler, ReplayMessenger) and handler.trace is not None:
        nodes = handler.trace.nodes.items()
        return "replay", {k for k, v in nodes if v["type"] == "sample" and not v["is_observed"]}
    if isinstance(handler, InitMessenger):
        start = handler.init_fn
        if isinstance(start, functools.partial) and start.func is init_to_value:
            return "init_to_value", start.keywords["values"]
    return "", {}


def _refuse_given(name: str, fn: Any) -> None:
    """Refuse a handler outside of relax that sets the value of the discrete site itself.

    For handlers outside, the discrete site is observed, with a value computed from the relaxed
    site. Pyro's ``replay`` would not set this value, and ``condition`` would set it without a
    change of the relaxed site's value.
    """
    kinds = (ReparamMessenger, _Relax)
    inner = max((i for i, h in enumerate(_PYRO_STACK) if isinstance(h, kinds)), default=0)
    site: Any = {"type": "sample", "name": name, "fn": fn, "is_observed": False, "infer": {}}
    for handler in reversed(_PYRO_STACK[:inner]):
        if isinstance(handler, BlockMessenger) and handler.hide_fn(site):
            return
        title, given = _given(handler)
        if name in given and f"{name}_relaxed" not in given:
            raise _relax.given_outside(name, title)


def deterministic(value: Tensor, event_dim: int) -> Any:
    """The message of a deterministic site, which a ``Reparam.apply`` of Pyro must return."""
    fn = dist.Delta(value, event_dim=event_dim).mask(False)
    return {"fn": fn, "value": value, "is_observed": True}


def inside(value: Tensor, one_hot: bool) -> Tensor:
    """The log or logit of an initial value, which is first moved away from 0 and 1."""
    if one_hot:
        return value.clamp(NEAR).log().log_softmax(-1)
    return value.clamp(NEAR, 1 - NEAR).logit()


class RelaxedReparam(_relax.Reparam, Reparam):
    """Relaxes one latent discrete site: its value is computed from a relaxed auxiliary site.

    A one-hot site ``z`` becomes a site ``z_relaxed`` of `ExpRelaxedOneHotCategorical` (in log
    space), and a Bernoulli site becomes one of `LogitRelaxedBernoulli` (in logit space), with the
    same logits, plates, masks and scales. In the trace ``z`` is then a deterministic site, whose
    value is the exponential or the sigmoid of the auxiliary value. Observed sites and relaxed sites
    do not change.

    Under Pyro's own ``poutine.reparam`` an autoguide or NUTS needs an initial value of the discrete
    site: pass ``init_to_sample``, or use `relax`, under which no such value is needed.

    Args:
        temperature: A positive number, or a tensor that broadcasts with the site's shape (the shape
            of its logits, without the categories).
        hard: Whether the value is one-hot, or 0 or 1, with the gradient of the soft value.
            Take temperatures up to 1e4. Above 1e4 the largest entries round to the same float32,
            and the first of them becomes 1, perhaps a wrong one (with 10 categories, in 1 of 1,000
            draws at 1e4, and in 1 of 10 at 2**20). HMC and NUTS need False, and True makes them
            warn: the gradient of hard values is not that of their density.

    Raises:
        ValueError: If the site is neither one-hot nor Bernoulli, the temperature is not positive or
            does not broadcast, or a handler outside, such as ``condition``, sets the value of the
            discrete site itself.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3 and appendix C.

    Example:
        >>> import pyro
        >>> import torch
        >>> from pyro import poutine
        >>> from relaxed_dists.pyro import OneHotCategorical
        >>> def model(): return pyro.sample("z", OneHotCategorical(logits=torch.zeros(3)))
        >>> relaxed = poutine.reparam(model, config={"z": RelaxedReparam(0.5)})
        >>> list(poutine.trace(relaxed).get_trace().stochastic_nodes)
        ['z_relaxed']
    """

    def apply(self, msg: Any) -> Any:
        """Draw the auxiliary site; Pyro's ``reparam`` handler calls this method.

        Args:
            msg: A dictionary with the site's name, distribution, initial value (or None), and
                whether the site is observed.

        Returns:
            A dictionary with the new distribution and value, and whether the site is now observed.
        """
        name, fn, value = msg["name"], msg["fn"], msg["value"]
        if msg["is_observed"] or isinstance(sites.innermost(fn), RelaxedDistribution):
            return msg
        around, one_hot = _relax.relaxed(sites, _CLASSES, name, fn, self.temperature)
        self._check_hard(name, "pyro.infer.mcmc.hmc")
        if value is None:
            _refuse_given(name, fn)
            y = pyro.sample(f"{name}_relaxed", around)
            value = constrained(ops, y, one_hot, self.hard)
            value = value if one_hot else value.clone()  # a copy, since users may write to a draw
        else:
            y = inside(value, one_hot)
            pyro.sample(f"{name}_relaxed", around, obs=y, infer={"is_observed": False})
        return deterministic(value, fn.event_dim)


class _CheckedModel:
    """A model whose first call with data checks that gradients reach the relaxed sites."""

    def __init__(self, fn: Callable[..., Any], handler: "_Relax") -> None:
        functools.update_wrapper(self, fn, updated=())
        self._fn, self._handler = fn, handler

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        chosen = self._handler.chosen
        with paths.explain_index("relax", lambda: chosen.relaxed or None):
            result = self._fn(*args, **kwargs)
        if chosen.relaxed and chosen.observed:
            inner: Any = self._fn
            while isinstance(inner, _bound_partial):  # a model inside a handler
                wrapped: Any = inner.func
                inner = wrapped.args[1]

            def check() -> bool:
                again = Messenger.__call__(self._handler.anew(), self._fn)
                return check_relaxed(again, chosen.relaxed, args, kwargs)

            paths.once(inner, check)
        return result


class _Relax(Messenger):
    """The handler of relax. With Pyro's reparam, autoguides would need initial discrete values."""

    def __init__(self, temperature: Any, sites: Iterable[str] | None, hard: bool) -> None:
        super().__init__()
        self.chosen = Chosen(sites)
        self._reparam = RelaxedReparam(temperature, hard)

    def __call__(self, fn: Callable[..., Any]) -> Any:
        return super().__call__(_CheckedModel(fn, self))

    def anew(self) -> "_Relax":
        """A new handler with the same arguments."""
        return _Relax(self._reparam.temperature, self.chosen.names, self._reparam.hard)

    def __enter__(self) -> Any:
        self.chosen.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if error[0] is None:
            self.chosen.check()

    def _pyro_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        try:
            is_discrete = msg["fn"].support.is_discrete
        except (AttributeError, NotImplementedError):
            is_discrete = False
        self.chosen.observed |= msg["is_observed"] and not msg["infer"].get("_deterministic")
        base = type(sites.innermost(msg["fn"])).__name__
        if self.chosen.has(msg["name"], base, is_discrete, msg["is_observed"]) and (
            msg["value"] is None  # otherwise a handler inside relax has set it
        ):
            msg.update(self._reparam.apply(msg))
            msg["infer"] = {"_deterministic": True}
            self.chosen.relaxed.add(msg["name"])


def relax(
    fn: Callable[..., Any] | None = None,
    temperature: Any = None,
    sites: Iterable[str] | None = None,
    hard: bool = False,
) -> Any:
    """Relaxes all latent discrete sites of a model, or the named ones.

    This handler applies `RelaxedReparam` to each latent site of a one-hot or Bernoulli
    distribution: a site ``z`` becomes the relaxed site ``z_relaxed`` and a deterministic value. The
    relaxed model is an ordinary continuous one: autoguides, ``Predictive`` and NUTS run on it. To
    anneal the temperature, write
    ``def relaxed(x, temperature): return relax(model, temperature)(x)`` and pass this function to
    `AnnealedSVI`.

    To condition on ``z``, write ``relax(condition(model, {"z": ...}), temperature)``, since
    handlers outside of ``relax`` can set only ``z_relaxed``. Autoguides and NUTS propose finite
    logs for all categories, but the log of a masked category (with a logit of -inf) is -inf: if
    there are masked categories, apply `GumbelSoftmaxReparam` to ``z_relaxed``.

    Args:
        fn: The model; or None, for a decorator or a context manager.
        temperature: A positive number, or a tensor that broadcasts with each site's shape.
        sites: The names of the sites to relax; by default all latent discrete sites.
        hard: Whether values are one-hot, or 0 or 1, with the gradient of the soft values.
            Take temperatures up to 1e4. Above 1e4 the largest entries round to the same float32,
            and the first of them becomes 1, perhaps a wrong one (with 10 categories, in 1 of 1,000
            draws at 1e4, and in 1 of 10 at 2**20). HMC and NUTS need False, and True makes them
            warn: the gradient of hard values is not that of their density.

    Returns:
        The relaxed model; or the handler, if there is no model.

    Raises:
        ValueError: If a latent discrete site is neither one-hot nor Bernoulli, a named site is not
            a latent discrete one or is never drawn, a temperature is out of its range, or the model
            uses a site's value only through functions without a derivative (an argmax, an index).
            The first call with data checks this last condition by running the model once more; it
            warns if a derivative exists but is 0.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3 and appendix C.

    Example:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from relaxed_dists.pyro import OneHotCategorical
        >>> def model(x):
        ...     z = pyro.sample("z", OneHotCategorical(logits=torch.zeros(2)))
        ...     pyro.sample("x", dist.Normal(z @ torch.tensor([-1.0, 1.0]), 1.0), obs=x)
        >>> _ = pyro.set_rng_seed(0)
        >>> guide = pyro.infer.autoguide.AutoNormal(relax(model, 0.5))
        >>> optim = pyro.optim.Adam({"lr": 0.01})
        >>> svi = pyro.infer.SVI(relax(model, 0.5), guide, optim, pyro.infer.Trace_ELBO())
        >>> loss = svi.step(torch.tensor(2.0))
        >>> list(guide.median())
        ['z_relaxed']
    """
    handler = _Relax(temperature, sites, hard)
    return handler if fn is None else functools.update_wrapper(handler(fn), fn, updated=())
