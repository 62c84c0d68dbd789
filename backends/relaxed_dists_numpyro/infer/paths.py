"""The check that a gradient reaches the discrete sites, which runs the model again."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from numpyro.handlers import block, replay, seed, substitute, trace
from numpyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from numpyro.infer.elbo import TraceEnum_ELBO
from numpyro.ops.provenance import eval_provenance
from numpyro.primitives import _PYRO_STACK, Messenger

from relaxed_dists._infer import paths
from relaxed_dists._infer.paths import moved, quietly, same, with_gradient, without_warnings
from relaxed_dists_jax.input import known
from relaxed_dists_jax.ops import ops

from ..distributions import sites as _sites
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from .unbiased import Unbiased

_PATHWISE = (Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO, TraceEnum_ELBO, RenyiELBO)


class _OuterParams(Messenger):
    """Gives a run the parameters of outer handlers, which a ``block`` hides from the run."""

    def __init__(self, handlers: list[Any]) -> None:
        super().__init__()
        self._handlers = handlers

    def process_message(self, msg: dict[str, Any]) -> None:
        """Let the outer handlers set the value of a parameter or a mutable; copy the mutable."""
        if msg["type"] in ("param", "mutable") and msg["value"] is None:
            for handler in self._handlers:
                handler.process_message(msg)
            if msg["type"] == "mutable":
                msg["value"] = jax.tree.map(lambda x: x, msg["value"])


@contextmanager
def isolated() -> Iterator[None]:
    """Hide a run from outer handlers, but give it the parameters of ``substitute`` handlers."""
    outside = [handler for handler in reversed(_PYRO_STACK) if isinstance(handler, substitute)]
    with block(), _OuterParams(outside):
        yield


class _Replaced(Messenger):
    """Changes the values of sites after their draws, so that all runs draw the same noise."""

    def __init__(self, values: dict[str, Array]) -> None:
        super().__init__()
        self._values = values

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Set the new value of a site, if there is one."""
        if msg["type"] in ("sample", "deterministic") and msg["name"] in self._values:
            msg["value"] = self._values[msg["name"]]


Sites = list[dict[str, Any]]


def _densities(sites: Sites, own: set[str]) -> list[Array]:
    found = []
    for site in sites:
        if site["type"] == "sample" and site["name"] not in own:
            more = (site["intermediates"],) if site["intermediates"] else ()
            found.append(jnp.asarray(site["fn"].log_prob(site["value"], *more)))
    return found


def _check(
    title: str,
    run: Callable[[], Sites],
    targets: Callable[[Sites], dict[str, tuple[tuple[bool, bool], set[str]]]],
    trained: Callable[[str], bool] = lambda name: True,
) -> bool:
    """Refuse a site if other sites' densities depend on its value, but without a derivative.

    If the check needs the numbers of traced values, it warns and returns False.

    Args:
        title: The name of the public class or function for which the check runs.
        run: Runs guide and model with the same keys each time, and returns their sites.
        targets: Takes the sites of a run; returns, by the names of those to check, two flags
            (whether the value is one-hot; whether it is a log or a logit), and the names of the
            sites whose densities do not count: the site itself, and its relaxed site.
        trained: Whether a site's value has a derivative with respect to a parameter. Only such a
            site needs a gradient.
    """
    wanted: dict[str, tuple[tuple[bool, bool], set[str]]] = {}

    def sites(values: dict[str, Array]) -> Sites:
        with isolated(), _Replaced(values), without_warnings():
            return run()

    def drawn() -> dict[str, Array]:
        found = sites({})
        wanted.update(targets(found))
        values = {site["name"]: site["value"] for site in reversed(found) if "value" in site}
        return {name: values[name] for name in wanted}

    shapes, seen = jax.eval_shape(drawn), True
    for name, (space, own) in wanted.items():

        def others(value: Array, name: str = name, own: set[str] = own) -> list[Array]:
            return _densities(sites({name: value}), own)

        def total(value: Array, others: Any = others) -> Array:
            return sum((x.sum() for x in others(value)), start=jnp.zeros(()))

        def unlike(value: Array) -> bool:
            return not same(before, others(value), np.allclose, 1e-5)  # noqa: B023

        some = jnp.ones(shapes[name].shape, shapes[name].dtype)
        slope = eval_provenance(lambda t: jax.jvp(total, (some,), (t,))[1], t=some)  # noqa: B023
        if slope or not eval_provenance(total, value=some) or not trained(name):
            continue
        with jax.ensure_compile_time_eval():
            value = drawn()[name]
            before = others(value)
            if not all(map(known, [value, *before])):  # tracers, as in a call under jit
                warnings.warn(paths.zero_gradient(title, name), stacklevel=4)
                seen = False
            elif any(map(unlike, moved(ops, value, *space))):
                raise paths.no_gradient(title, name)
    return seen


def pathwise(loss: Any) -> bool:
    """Whether a loss is known to train a guide by derivatives through the guide's values."""
    several = getattr(loss, "multi_sample_guide", False)
    return isinstance(loss, _PATHWISE) and not isinstance(loss, Unbiased) and not several


def check_svi(
    params: dict[str, Any], model: Any, guide: Any, args: Any, kwargs: dict[str, Any]
) -> None:
    """Refuse a guide whose discrete sites get no gradient from the model.

    Raises:
        ValueError: If other sites' densities depend on a site's value, but none has a derivative
            with respect to that value.
    """
    keys = random.split(random.key(0))

    def drawn(params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        data = jax.tree.map(lambda x: x, params)  # a copy, since a run may change mutable values
        return data, trace(substitute(seed(guide, keys[0]), data)).get_trace(*args, **kwargs)

    def run() -> Sites:
        data, found = drawn(params)
        replayed = replay(substitute(seed(model, keys[1]), data), found)
        return [*found.values(), *trace(replayed).get_trace(*args, **kwargs).values()]

    def targets(sites: Sites) -> dict[str, Any]:
        def space(base: Any) -> tuple[bool, bool]:
            real = isinstance(base, ExpRelaxedOneHotCategorical | LogitRelaxedBernoulli)
            return len(base.event_shape) > 0, real

        drawn = with_gradient(_sites, sites)
        return {k: (space(_sites.innermost(site["fn"])), {k}) for k, site in drawn.items()}

    def trained(name: str) -> bool:
        leaves, tree = jax.tree.flatten(params)
        moves = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]
        floats = [jnp.asarray(x) for x, moved in zip(leaves, moves, strict=True) if moved]

        def value(floats: list[Array]) -> Array:
            those = iter(floats)
            all_ = [next(those) if moved else x for x, moved in zip(leaves, moves, strict=True)]
            with isolated(), without_warnings():
                found: Array = drawn(jax.tree.unflatten(tree, all_))[1][name]["value"]
            return found

        return bool(eval_provenance(lambda t: jax.jvp(value, (floats,), (t,))[1], t=floats))

    quietly(lambda: _check("AnnealedSVI", run, targets, trained))


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

    def run() -> Sites:
        return list(trace(seed(relaxed, random.key(0))).get_trace(*args, **kwargs).values())

    def targets(sites: Sites) -> dict[str, Any]:
        spaces = {
            site["name"].removesuffix("_relaxed"): (len(site["fn"].event_shape) > 0, False)
            for site in sites
            if site["type"] == "sample" and _sites.kind(site["fn"]) == "relaxed"
        }
        return {k: (spaces[k], {k, f"{k}_relaxed"}) for k in names & spaces.keys()}

    return quietly(lambda: _check("relax", run, targets))
