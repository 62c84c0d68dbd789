"""What both AutoRelaxed classes share: the estimator of a call, and the logits to start from."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relaxed_dists._distributions import estimators, formulas
from relaxed_dists._infer.svi import takes_temperature, without_temperature
from relaxed_dists._ops import Array, Ops


@dataclass
class Site:
    """A latent discrete site of the model."""

    family: Any  # the law's class
    extra: int  # the event dimensions beyond the law's
    event_dim: int
    frames: list[Any]  # of its plates
    fixed: Any = None  # 0, or what is added to the logits to keep the prior's zeros


def _takes(fn: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(fn).bind(*[None] * count)
    except TypeError:
        return False
    return True


def checked(estimator: Any) -> Any:
    """An estimator, or a callable from a temperature to one; else an error."""
    value = hasattr(estimator, "one_hot") and not isinstance(estimator, type)
    if value or (callable(estimator) and _takes(estimator, 1)):
        return estimator
    if callable(estimator) and _takes(estimator, 3):  # of logits, draw and noise
        return estimators.checked("AutoRelaxed", estimator)
    raise not_an_estimator(estimator)


def with_temperature(
    model: Callable[..., Any], estimator: Any, unwrap: Callable[[Any], Any]
) -> Callable[..., Any]:
    """The model; accepting temperature= as the guide does, where its estimator is made from it."""
    if not callable(estimator) or takes_temperature(model, unwrap):
        return model
    return without_temperature(model)


def estimator_of(estimator: Any, kwargs: dict[str, Any]) -> Any:
    """The estimator of a call with these keyword arguments."""
    if not callable(estimator):
        return estimator
    temperature = kwargs.get("temperature")
    if temperature is None:
        raise guide_without_temperature()
    if isinstance(estimator, type) and isinstance(temperature, dict | list | tuple):
        raise which_temperature(estimator.__name__, temperature)
    return estimator(temperature)


def start(ops: Ops, value: Array, rows: bool) -> Array:
    """Logits of nine parts of a value and one of the uniform law: finite ones, at a corner too."""
    if rows:
        return ops.log(0.9 * value + 0.1 / value.shape[-1])
    return formulas.logit(ops, 0.9 * value + 0.05)


def fixed(ops: Ops, logits: Array, rows: bool) -> Array:
    """What, added to finite logits, keeps the zeros of a prior: 0 for its other entries."""
    kept = abs(logits) < formulas.HUGE
    return ops.where(kept, 0.0, -math.inf if rows else ops.where(logits > 0, math.inf, -math.inf))


# The messages.


def not_an_estimator(estimator: Any) -> ValueError:
    """Something else in an estimator's place."""
    return ValueError(
        f"AutoRelaxed got estimator={estimator!r}; expected an estimator, or a callable from a "
        "temperature alone to one. Pass StraightThrough(), GumbelSoftmax(0.5), GumbelSoftmax "
        "itself, or lambda t: DecoupledGumbelSoftmax(1.0, t)."
    )


def guide_without_temperature() -> ValueError:
    """A call of a guide whose estimator is made from the temperature."""
    return ValueError(
        "AutoRelaxed got no temperature; expected temperature=, since its estimator is made from "
        "it. Use AnnealedSVI, which passes it; bind one (functools.partial(guide, "
        "temperature=0.5)), as for Predictive; or pass an estimator with its temperature, such as "
        "GumbelSoftmax(0.5)."
    )


def which_temperature(estimator: str, temperature: Any) -> ValueError:
    """Several temperatures for an estimator of one."""
    keys = list(temperature if isinstance(temperature, dict) else range(len(temperature)))
    return ValueError(
        f"AutoRelaxed got the temperatures {keys} and estimator={estimator}, which is made from "
        "one; expected to be told which. Pass estimator=lambda t: "
        f"{estimator}(t[{keys[0] if keys else 0!r}])."
    )


def guide_not_called() -> ValueError:
    """A question to an automatic guide that has seen no model yet."""
    return ValueError(
        "AutoRelaxed was asked for its laws before its first call; expected one, in which it finds "
        "the model's sites. Train it, or call it once with the model's arguments."
    )


def no_logits_for(site: str, law: Any) -> ValueError:
    """A latent discrete site that is neither one-hot nor Bernoulli."""
    remedy = (
        "Write OneHotCategorical where the value is a category, and multiply by it instead of "
        "indexing; or hide the site from this guide with block."
    )
    return ValueError(
        f"AutoRelaxed got the latent site '{site}' of {type(law).__name__}; expected "
        f"OneHotCategorical or Bernoulli, whose values carry a pathwise gradient. {remedy}"
    )


def continuous_sites(names: Sequence[str]) -> ValueError:
    """Latent continuous sites that no guide draws."""
    return ValueError(
        f"AutoRelaxed got the latent continuous sites {list(names)} and no guide for them; "
        "expected discrete ones. Pass continuous=AutoNormal, or another class or function from a "
        "model to an autoguide; or put AutoRelaxed(block(model, hide=[...])) and theirs in an "
        "AutoGuideList."
    )


def needs_its_own_guide(sites: Mapping[str, str]) -> ValueError:
    """Latent sites that no autoguide draws: they have no density, or masses beside it."""
    name, cls = next(iter(sites.items()))
    return ValueError(
        f"AutoRelaxed got the latent sites {dict(sites)}, which neither it nor another autoguide "
        "can draw; expected discrete sites, and continuous ones that have a density everywhere. "
        f"Write a guide that draws '{name}' from {cls} as well, and beside it, for the discrete "
        f"sites, calls AutoRelaxed(block(model, hide={list(sites)}))."
    )


def no_discrete_sites() -> ValueError:
    """A model with nothing for this guide."""
    return ValueError(
        "AutoRelaxed got a model without latent discrete sites; expected at least one of "
        "OneHotCategorical or Bernoulli. Use the framework's own autoguides, such as AutoNormal."
    )


def needs_the_density(name: str) -> ValueError:
    """A guide for the continuous sites that computes the model's density."""
    return ValueError(
        f"AutoRelaxed got continuous={name}, which computes the model's density, where the "
        "discrete sites are hidden; expected an autoguide with parameters only. Use AutoNormal or "
        "AutoMultivariateNormal."
    )
