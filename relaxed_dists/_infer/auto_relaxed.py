"""The parts that both AutoRelaxed classes share: the estimator of a call, and the sites."""

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from relaxed_dists._distributions import estimator_base, formulas
from relaxed_dists._infer.sites import Sites
from relaxed_dists._infer.svi import title, tolerant
from relaxed_dists._ops import Array, Ops


@dataclass
class Site:
    """A latent discrete site of the model."""

    family: Any  # the class of the site's distribution
    extra: int  # the number of the site's event dimensions beyond those of the family
    event_dim: int
    frames: list[Any]  # the frames of the site's plates, from cond_indep_stack
    fixed: Any = None  # added to the logits: infinite where the prior excludes a value, else 0

    def distribution(self, logits: Array, subsample: Callable[..., Array], estimator: Any) -> Any:
        """The site's distribution: of a subsample inside the site's plates, of all data outside.

        Args:
            logits: The logits of the site.
            subsample: The framework's function that selects a plate's subsample from an array.
            estimator: An estimator, or None.
        """
        validate = None
        if self.fixed is not None:
            logits = logits + subsample(self.fixed, event_dim=self.event_dim)
            validate = False  # validation refuses a logit of inf, which is probability 1
        made = self.family(logits=logits, estimator=estimator, validate_args=validate)
        return made.to_event(self.extra)


def _takes(fn: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(fn).bind(*[None] * count)
    except TypeError:
        return False
    return True


def checked(estimator: Any) -> Any:
    """The argument as an estimator or a function from a temperature to one; else an error."""
    value = hasattr(estimator, "one_hot") and not isinstance(estimator, type)
    if value or (callable(estimator) and _takes(estimator, 1)):
        return estimator
    if callable(estimator) and _takes(estimator, 3):  # a function of logits, draw and noise
        return estimator_base.checked("AutoRelaxed", estimator)
    raise ValueError(
        f"AutoRelaxed got estimator={estimator!r}; expected an estimator, or a callable from a "
        "temperature alone to one. Pass StraightThrough(), GumbelSoftmax(0.5), GumbelSoftmax "
        "itself, or lambda t: DecoupledGumbelSoftmax(1.0, t)."
    )


def with_temperature(
    model: Callable[..., Any], estimator: Any, unwrap: Callable[[Any], Any]
) -> Callable[..., Any]:
    """The model, wrapped to accept temperature= if the estimator is made from a temperature."""
    return tolerant(model, unwrap) if callable(estimator) else model


def estimator_of(estimator: Any, kwargs: dict[str, Any]) -> Any:
    """The estimator for a call of the guide with these keyword arguments."""
    if not callable(estimator):
        return estimator
    temperature = kwargs.get("temperature")
    if temperature is None:
        raise ValueError(
            "AutoRelaxed got no temperature; expected temperature=, since its estimator is made "
            "from it. Use AnnealedSVI, which passes it; bind one (functools.partial(guide, "
            "temperature=0.5)), as for Predictive; or pass an estimator with its temperature, such "
            "as GumbelSoftmax(0.5)."
        )
    if isinstance(estimator, type) and isinstance(temperature, dict | list | tuple):
        name = estimator.__name__
        keys = list(temperature if isinstance(temperature, dict) else range(len(temperature)))
        raise ValueError(
            f"AutoRelaxed got the temperatures {keys} and estimator={name}, which is made from "
            "one; expected to be told which. Pass estimator=lambda t: "
            f"{name}(t[{keys[0] if keys else 0!r}])."
        )
    return estimator(temperature)


def start(ops: Ops, value: Array, one_hot: bool) -> Array:
    """The logits of 0.9 value + 0.1 uniform probabilities, which are finite for any value."""
    if one_hot:
        return ops.log(0.9 * value + 0.1 / value.shape[-1])
    return formulas.logit(ops, 0.9 * value + 0.05)


def fixed(ops: Ops, logits: Array, one_hot: bool) -> Array:
    """Infinite logits where the prior excludes a value, and 0 elsewhere."""
    never = -math.inf if one_hot else ops.where(logits > 0, math.inf, -math.inf)
    return ops.where(abs(logits) < formulas.HUGE, 0.0, never)


class Guide:
    """The treatment of a model's latent sites in both AutoRelaxed classes.

    Attributes:
        _xp: The framework's module with broadcast_to, where and zeros_like.
        _ops: The backend's operations.
        _base_sites: The backend's module for distributions of sites.
        _refused: The classes that no autoguide can draw from.
        _of_density: The classes of autoguides that compute the model's density.
        _is_discrete: Whether a message comes from a latent discrete site.
        _array: Makes an array of a value, with the dtype and device of another array.
        _repeat: The framework's periodic_repeat, which repeats an array along an axis.
        _known: Whether the numbers of an array can be read, which they can't under tracing.
        _full_size: The full size of a plate, from its frame.
    """

    model: Any
    estimator: Any
    continuous: Any
    init_loc_fn: Any
    prototype_trace: Any
    _xp: Any
    _ops: Ops
    _base_sites: Sites
    _refused: tuple[type, ...]
    _of_density: tuple[type, ...]
    _is_discrete: Callable[[Any], bool]
    _array: Callable[[Any, Array], Array]
    _repeat: Callable[[Array, int, int], Array]
    _known: Callable[[Array], bool]
    _full_size: Callable[[Any], int]

    def __repr__(self) -> str:
        inside = [title(self.model), estimator_base.short_repr(self.estimator)]
        inside += [] if self.continuous is None else [type(self.continuous).__name__]
        return f"{type(self).__name__}({', '.join(inside)})"

    @property
    def _needs_temperature(self) -> bool:
        """Whether a call needs a temperature, from which the estimator is made."""
        return callable(self.estimator)

    def _guide_continuous(self, make: Callable[..., Any] | None, model: Any) -> None:
        """Make the guide of the continuous sites, for a model whose discrete sites are hidden."""
        self.continuous = None if make is None else make(model)
        if isinstance(self.continuous, self._of_density):
            raise ValueError(
                f"AutoRelaxed got continuous={type(self.continuous).__name__}, which computes the "
                "density of the model, whose discrete sites are hidden; expected an autoguide with "
                "parameters only. Use AutoNormal or AutoMultivariateNormal."
            )

    def _find(self, latent: Mapping[str, Any]) -> dict[str, Array]:
        """Find the discrete sites, and return their initial logits, by the name of the site.

        Args:
            latent: The latent sites, in the order in which the model draws them.

        Raises:
            ValueError: If the model has no discrete site, or a latent site that neither this guide
                nor the guide of the continuous sites can draw.
        """
        bases = {name: self._base_sites.innermost(msg["fn"]) for name, msg in latent.items()}
        refused = {k: type(b).__name__ for k, b in bases.items() if isinstance(b, self._refused)}
        discrete = [name for name, msg in latent.items() if self._is_discrete(msg)]
        if refused and not (discrete and self.continuous is not None):
            name, cls = next(iter(refused.items()))
            raise ValueError(
                f"AutoRelaxed got the latent sites {refused}, which neither it nor another "
                "autoguide can draw; expected discrete sites, and continuous ones that have a "
                f"density everywhere. Write a guide that draws '{name}' from {cls} as well, and "
                "beside it, for the discrete sites, calls "
                f"AutoRelaxed(block(model, hide={list(refused)}))."
            )
        if not discrete:
            raise ValueError(
                "AutoRelaxed got a model without latent discrete sites; expected at least one of "
                "OneHotCategorical or Bernoulli. Use the framework's own autoguides, such as "
                "AutoNormal."
            )
        others = [name for name in latent if name not in discrete]
        if self.continuous is None and others:
            raise ValueError(
                f"AutoRelaxed got the latent continuous sites {others} and no guide for them; "
                "expected discrete ones. Pass continuous=AutoNormal, or another class or function "
                "from a model to an autoguide; or put AutoRelaxed(block(model, hide=[...])) and "
                "theirs in an AutoGuideList."
            )
        # The guide keeps the model's order of discrete and continuous sites, since
        # TraceMeanField_ELBO warns if the orders differ.
        self._discrete_first = next(iter(latent)) in discrete
        found = {name: self._site(latent[name]) for name in discrete}
        self._sites = {name: site for name, (site, _) in found.items()}
        return {name: logits for name, (_, logits) in found.items()}

    def _site(self, msg: Any) -> tuple[Site, Array]:
        """A latent discrete site and its initial logits, at the full size of its plates."""
        xp, ops, fn = self._xp, self._ops, msg["fn"]
        base = self._base_sites.innermost(fn)
        counterpart = self._base_sites.discrete(base)
        if counterpart is None:
            raise ValueError(
                f"AutoRelaxed got the latent site '{msg['name']}' of {type(base).__name__}; "
                "expected OneHotCategorical or Bernoulli, whose values carry a pathwise gradient. "
                "Write OneHotCategorical where the value is a category, and multiply by it instead "
                "of indexing; or hide the site from this guide with block. "
                "See docs/from-discrete-to-trained.md."
            )
        one_hot, event_dim = len(counterpart.event_shape) > 0, fn.event_dim
        site = Site(type(counterpart), event_dim - one_hot, event_dim, msg["cond_indep_stack"])
        prior, shape = ops.stop_gradient(counterpart.logits), fn.shape()
        zeros = xp.broadcast_to(xp.zeros_like(prior), shape)
        value = None if self.init_loc_fn is None else self.init_loc_fn(msg)
        logits = zeros if value is None else start(ops, self._array(value, zeros), one_hot)
        zeros = fixed(ops, prior, one_hot) if self._known(prior) else zeros
        zeros = xp.broadcast_to(zeros, shape)
        for frame in site.frames:
            size, axis = self._full_size(frame), frame.dim - event_dim
            if len(logits.shape) < -axis or logits.shape[axis] != size:
                logits = self._repeat(xp.broadcast_to(logits, shape), size, axis)
            if size != frame.size:
                # Rows outside the subsample get the entries that all rows of the subsample share.
                first = (..., slice(1), *[slice(None)] * (-axis - 1))
                row = zeros[first]
                zeros = xp.where((zeros == row).all(axis, keepdims=True), row, 0.0)
                shape = (*shape[:axis], size, *shape[len(shape) + axis + 1 :])
                zeros = xp.broadcast_to(zeros, shape)
        site.fixed = zeros if self._known(zeros) and bool(zeros.any()) else None
        return site, xp.broadcast_to(logits, shape)

    def _check_fixed(self, dependencies: Callable[[], Mapping[str, Any]]) -> None:
        """Drop ``fixed`` of sites whose prior depends on other latent sites and so may change."""
        if any(site.fixed is not None for site in self._sites.values()):
            prior = dependencies()["prior_dependencies"]
            for name, site in self._sites.items():
                site.fixed = site.fixed if prior[name].keys() == {name} else None

    def _posterior(self, make: Callable[[str, Site], Any]) -> dict[str, Any]:
        """The distributions of the discrete sites, by name."""
        if self.prototype_trace is None:
            raise ValueError(
                "AutoRelaxed was asked for its distributions before its first call; expected a "
                "call, in which it finds the model's sites. Train it, or call it once with the "
                "model's arguments."
            )
        return {name: make(name, site) for name, site in self._sites.items()}

    def _draw(
        self, plates: Any, draw: Callable[[str, Site], Array], args: Any, kwargs: Any
    ) -> dict[str, Array]:
        """Draw all latent sites. The continuous sites have a guide of their own."""
        result: dict[str, Array] = {}
        if self.continuous is not None and not self._discrete_first:
            result.update(self.continuous(*args, **kwargs))
        for name, site in self._sites.items():
            with ExitStack() as stack:
                for frame in site.frames:
                    stack.enter_context(plates[frame.name])
                result[name] = draw(name, site)
        if self.continuous is not None and self._discrete_first:
            result.update(self.continuous(*args, **kwargs))
        return result
