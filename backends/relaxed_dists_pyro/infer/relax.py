"""Relaxation of a model as it is written: its discrete sites become relaxed ones."""

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
from relaxed_dists._infer.relax import Chosen, shown

from .._adapter import RelaxedDistribution
from .._torch.ops import ops
from ..distributions import sites
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from .paths import check_relaxed

_CLASSES = ExpRelaxedOneHotCategorical, LogitRelaxedBernoulli
NEAR = 0.01  # how near an initial value may be to the simplex's border, where its log is infinite


def _given(handler: Any) -> tuple[str, Any]:
    """A handler's name, and the values that it gives to sites, by name."""
    if isinstance(handler, ConditionMessenger):
        nodes = getattr(handler.data, "nodes", None)  # of a trace
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
    """Refuse a value for the site's own name from a handler outside.

    There the site is observed, at the value computed from the relaxed site. Pyro's ``replay`` would
    pass it by, and ``condition`` change its value and leave that of the relaxed site as it was.
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
    """The result of a reparameterisation, as Pyro's own have it."""
    law = dist.Delta(value, event_dim=event_dim).mask(False)
    return {"fn": law, "value": value, "is_observed": True}


def inside(value: Tensor, rows: bool, tiny: float = NEAR) -> Tensor:
    """The log or logit of an initial value, away from the border."""
    return value.clamp(tiny).log().log_softmax(-1) if rows else value.clamp(tiny, 1 - tiny).logit()


class RelaxedReparam(Reparam):
    r"""Relaxes one latent discrete site: its value is computed from a relaxed auxiliary site.

    The site ``z`` of a one-hot law becomes a site ``z_relaxed`` of
    :class:`ExpRelaxedOneHotCategorical` (log space), that of a Bernoulli law one of
    :class:`LogitRelaxedBernoulli` (logit space), with the same logits, plates, masks and scales.
    The value of ``z`` stays in the trace as a deterministic one: :math:`\exp` or the sigmoid of the
    auxiliary value. Observed and already relaxed sites are left as they are.

    Under Pyro's own ``poutine.reparam`` an autoguide and NUTS first ask their initialisation for a
    value of the discrete site: take ``init_to_sample`` there, or :func:`relax`, which does not ask.

    Args:
        temperature: A positive number, or a tensor that broadcasts with the site's shape (that of
            its logits, without the categories).
        hard: Whether the value is the one-hot or 0-1 one, with the soft one's gradient.

    Raises:
        ValueError: If the site's law can't be relaxed, a temperature is out of its range or does
            not broadcast, or a handler outside gives a value to the site's own name.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3 and appendix C.

    Example:
        >>> import torch
        >>> from pyro import poutine
        >>> from relaxed_dists.pyro import OneHotCategorical
        >>> def model(): return pyro.sample("z", OneHotCategorical(logits=torch.zeros(3)))
        >>> relaxed = poutine.reparam(model, config={"z": RelaxedReparam(0.5)})
        >>> list(poutine.trace(relaxed).get_trace().stochastic_nodes)
        ['z_relaxed']
    """

    def __init__(self, temperature: Any, hard: bool = False) -> None:
        self.temperature = temperature
        self.hard = hard

    def apply(self, msg: Any) -> Any:
        """Draw the auxiliary site, in Pyro's ``reparam`` handler.

        Args:
            msg: The site's name, law, value (of an initialisation, or None), and whether it is
                observed.

        Returns:
            The law, value and observedness in their place.
        """
        name, fn, value = msg["name"], msg["fn"], msg["value"]
        if msg["is_observed"] or isinstance(sites.innermost(fn), RelaxedDistribution):
            return msg
        around, rows = _relax.relaxed(sites, _CLASSES, name, fn, self.temperature)
        if value is None:
            _refuse_given(name, fn)
            y = pyro.sample(f"{name}_relaxed", around)
            value = shown(ops, y, rows, self.hard)
            value = value if rows else value.clone()  # may be written to, as a draw may
        else:
            y = inside(value, rows)
            pyro.sample(f"{name}_relaxed", around, obs=y, infer={"is_observed": False})
        return deterministic(value, fn.event_dim)


class _Looked:
    """A model, looked at after its first call with data, whether gradients reach its sites."""

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
            while isinstance(inner, _bound_partial):  # a handler's
                wrapped: Any = inner.func
                inner = wrapped.args[1]

            def check() -> bool:
                again = Messenger.__call__(self._handler.anew(), self._fn)
                return check_relaxed(again, chosen.relaxed, args, kwargs)

            paths.once(inner, check)
        return result


class _Relax(Messenger):
    """The handler. Pyro's ReparamMessenger would first ask for an initial discrete value."""

    def __init__(self, temperature: Any, sites: Iterable[str] | None, hard: bool) -> None:
        super().__init__()
        self.chosen = Chosen(sites)
        self._reparam = RelaxedReparam(temperature, hard)

    def __call__(self, fn: Callable[..., Any]) -> Any:
        return super().__call__(_Looked(fn, self))

    def anew(self) -> "_Relax":
        """The same handler, not entered."""
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
        law = type(sites.innermost(msg["fn"])).__name__
        if self.chosen.has(msg["name"], law, is_discrete, msg["is_observed"]) and (
            msg["value"] is None  # else given by a handler inside
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
    r"""Relaxes all latent discrete sites of a model, or those named.

    A handler as Pyro's own are: each latent site of a one-hot or Bernoulli law goes through
    :class:`RelaxedReparam`, so that ``z`` becomes the relaxed site ``z_relaxed`` and a
    deterministic value. The relaxed model is an ordinary continuous one: autoguides, ``Predictive``
    and NUTS run on it. To anneal the temperature, write
    ``def relaxed(x, temperature): return relax(model, temperature)(x)`` and give it to
    :class:`AnnealedSVI`.

    Conditions on ``z`` belong inside, ``relax(condition(model, {"z": ...}), temperature)``: outside
    there is ``z_relaxed``. A masked category (a logit of -inf) has no density, so autoguides and
    NUTS, which move through all of them, need :class:`GumbelSoftmaxReparam` on ``z_relaxed``.

    Args:
        fn: The model; None for a decorator, or as a context manager.
        temperature: A positive number, or a tensor that broadcasts with each site's shape.
        sites: The names of the sites to relax; by default all latent discrete sites.
        hard: Whether values are one-hot or 0-1 ones, with the soft ones' gradient.

    Returns:
        The relaxed model, or the handler if there is none.

    Raises:
        ValueError: If a site's law can't be relaxed, a named site is not a latent discrete one or
            is never drawn, a temperature is out of its range, or the model uses a site's value in
            steps only (an argmax, an index), so that its density has no gradient by it. That is
            seen by the first call with data, which runs the model once more; where a derivative
            exists but is 0, a warning.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3 and appendix C.

    Example:
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
