"""What both AutoRelaxed classes share: the estimator of a call, and the logits to start from."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relaxed_dists import _errors_inference
from relaxed_dists._distributions import estimators, formulas
from relaxed_dists._distributions.formulas import Array, Ops
from relaxed_dists._infer.svi import takes_temperature, without_temperature


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
    raise _errors_inference.not_an_estimator(estimator)


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
        raise _errors_inference.guide_without_temperature()
    if isinstance(estimator, type) and isinstance(temperature, dict | list | tuple):
        raise _errors_inference.which_temperature(estimator.__name__, temperature)
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
