"""The check that a gradient reaches the discrete sites, which runs the model again."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn.parameter import is_lazy

from relaxed_dists._infer import paths
from relaxed_dists._infer.paths import moved, quietly, same, with_gradient, without_warnings
from relaxed_dists_torch.ops import ops
from relaxed_dists_torch.state import traced

from ..distributions import sites as _sites
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from .generators import rng_state, set_rng_state
from .ranks import several
from .unbiased import Unbiased

_PATHWISE = (Trace_ELBO, TraceGraph_ELBO, TraceEnum_ELBO, RenyiELBO)


def traces(model: Any, guide: Any, args: Any, kwargs: Any) -> list[poutine.Trace]:
    """The traces of the guide, and of the model replayed with the guide's values."""
    inner: Any = poutine.unwrap(guide)
    if hasattr(inner, "get_traces"):  # a GuideMessenger, whose call runs its own model too
        guide(*args, **kwargs)
        model_trace, guide_trace = inner.get_traces()
    else:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        replayed = poutine.replay(model, trace=guide_trace)
        model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
    return [guide_trace, model_trace]


class _Replaced(Messenger):
    """Changes the values of sites after their draws, so that all runs draw the same noise."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self._change = change

    def _pyro_post_sample(self, msg: Any) -> None:
        msg["value"] = self._change(msg)


@contextmanager
def unchanged_buffers() -> Iterator[None]:
    """Restore the buffers of all modules that are called in the ``with`` block, and of their parts.

    A lazy module has no buffers to restore before its first call.
    """
    saved: dict[tuple[int, str], tuple[Any, Tensor | None, Any]] = {}

    def save(module: Any, args: Any) -> None:
        for part in module.modules():
            for name, buffer in part._buffers.items():
                if (id(part), name) not in saved and not is_lazy(buffer):
                    before = None if buffer is None else buffer.clone()
                    saved[id(part), name] = (part, buffer, before)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(save)
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            # In reverse: parts may share a buffer, which changed before the last of them was saved.
            for (_, name), (part, buffer, before) in reversed(saved.items()):
                part._buffers[name] = buffer  # a module may have assigned another tensor
                if buffer is not None and not torch.equal(buffer, before):
                    buffer.copy_(before)


@contextmanager
def _unchanged() -> Iterator[None]:
    """Restore the random generators and the modules' buffers at the end of the ``with`` block."""
    state = rng_state()
    try:
        with unchanged_buffers():
            yield
    finally:
        set_rng_state(state)


Change = Callable[[Any], Any]


def _run(run: Callable[[], list[Any]], change: Change, hidden: set[str], state: Any) -> list[Any]:
    """The sites of a run in which ``change`` replaces values; all but the hidden have a density."""
    set_rng_state(state)
    with poutine.block(), _Replaced(change), without_warnings():
        found = run()
        for trace in found:
            trace.compute_log_prob(lambda name, site: name not in hidden)
    return [site for trace in found for site in trace.nodes.values() if site["type"] == "sample"]


def _densities(sites: list[Any], hidden: set[str]) -> list[Tensor]:
    return [site["log_prob"] for site in sites if site["name"] not in hidden]


def _check(
    title: str,
    run: Callable[[], list[Any]],
    leaf: Change,
    targets: Callable[[list[Any]], dict[str, tuple[Any, set[str]]]],
) -> bool:
    """Refuse a site if other sites' densities depend on its value, but without a derivative.

    If a derivative exists but is 0, the check only warns, and not if several processes train. While
    torch traces code, values have no numbers, so nothing is run and the result is False.

    Args:
        title: The name of the public class or function for which the check runs.
        run: Runs guide and model, and returns their traces.
        leaf: Takes a site's message; returns the value of the site in the run that is
            differentiated.
        targets: Takes the sites of a run; returns those to check, by name, each with the names of
            the sites whose densities do not count: the site itself, and its relaxed site.
    """
    if traced():
        return False
    with _unchanged():
        zero = _zero_slopes(title, run, leaf, targets)
        # A derivative may be 0 by chance, as where a hard value equals the data. So draw three
        # times more.
        for _ in range(3 if zero else 0):
            zero &= _zero_slopes(title, run, leaf, targets)
    for name in sorted(zero):
        warnings.warn(paths.zero_gradient(title, name), stacklevel=4)
    return True


def _zero_slopes(
    title: str,
    run: Callable[[], list[Any]],
    leaf: Change,
    targets: Callable[[list[Any]], dict[str, tuple[Any, set[str]]]],
) -> set[str]:
    """The sites on which other densities depend, though all derivatives are 0 in one run.

    The arguments are those of ``_check``.
    """
    state, zero = rng_state(), set()
    with torch.enable_grad():
        sites = _run(run, leaf, set(), state)
    for name, (site, own) in targets(sites).items():
        value, others = site["value"], [x for x in _densities(sites, own) if x.requires_grad]
        slope = None
        if others:
            total: Any = sum(x.sum() for x in others)
            how: Any = {"retain_graph": True, "allow_unused": True}
            (slope,) = torch.autograd.grad(total, value, **how)
        # Whether all derivatives are 0 depends on a rank's numbers. A rank that finds zeros would
        # run model and guide more often than the others, and wait in vain for them in these runs.
        if slope is not None and (several() or (slope != 0).any()):
            continue
        with torch.no_grad():
            if not _matters(run, name, own, site, state):
                continue
        if slope is None:
            raise paths.no_gradient(title, name)
        zero.add(name)
    return zero


def _matters(run: Any, name: str, own: set[str], site: Any, state: Any) -> bool:
    """Whether the log densities of other sites change when the value of a site does."""

    def others(value: Tensor) -> list[Tensor]:
        change: Change = lambda msg: value if msg["name"] == name else msg["value"]  # noqa: E731
        return _densities(_run(run, change, own, state), own)

    def unlike(value: Tensor) -> bool:
        return not same(before, others(value), torch.allclose, 1e-5)

    value, base = site["value"].detach(), _sites.innermost(site["fn"])
    before = others(value)
    real = isinstance(base, ExpRelaxedOneHotCategorical | LogitRelaxedBernoulli)
    values = chain([value], moved(ops, value, len(base.event_shape) > 0, real, soft=several()))
    changes: Iterator[bool] = map(unlike, values)
    if several():
        changes = iter(list(changes))  # all ranks run equally often
    # If the densities change at the same value too, nothing can be known.
    return not next(changes) and any(changes)


def pathwise(loss: Any) -> bool:
    """Whether a loss is known to train a guide by derivatives through the guide's values."""
    return isinstance(loss, _PATHWISE) and not isinstance(loss, Unbiased)


def check_svi(model: Any, guide: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse a guide whose discrete sites get no gradient from the model.

    Raises:
        ValueError: If other sites' densities depend on a site's value, but none has a derivative
            with respect to that value.
    """

    def run() -> list[Any]:
        return traces(model, guide, args, kwargs)

    def targets(sites: list[Any]) -> dict[str, Any]:
        drawn = with_gradient(_sites, sites)
        return {k: (s, {k}) for k, s in drawn.items() if s["value"].requires_grad}

    quietly(lambda: _check("AnnealedSVI", run, lambda msg: msg["value"], targets))


def check_relaxed(relaxed: Any, names: set[str], args: Any, kwargs: dict[str, Any]) -> bool:
    """Refuse a relaxed model in which no gradient reaches a site; False if the check can't run.

    Args:
        relaxed: The model inside the handler ``relax``.
        names: The sites that the handler relaxes.
        args: The model's arguments.
        kwargs: The model's keyword arguments.

    Raises:
        ValueError: In the same cases as check_svi.
    """

    def run() -> list[Any]:
        return [poutine.trace(relaxed).get_trace(*args, **kwargs)]

    def leaf(msg: Any) -> Any:
        # The value is made a leaf of autograd's graph, as a prior's draw may require no gradient.
        value = msg["value"]
        return value.detach().requires_grad_() if msg["name"] in names else value

    def targets(sites: list[Any]) -> dict[str, Any]:
        own = {site["name"]: site for site in sites}
        return {k: (own[k], {k, f"{k}_relaxed"}) for k in names & own.keys()}

    return quietly(lambda: _check("relax", run, leaf, targets))
