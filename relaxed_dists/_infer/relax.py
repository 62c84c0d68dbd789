"""What both backends share of the relaxation of a model as it is written."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from relaxed_dists import _errors, _errors_inference
from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.formulas import Array, Ops


def shown(ops: Ops, y: Array, rows: bool, hard: bool) -> Array:
    """The point of the simplex or of (0, 1) whose log or logit is y, or its corner."""
    soft = ops.exp(y) if rows else ops.exp(-ops.softplus(-y))
    if not hard:
        return soft
    corner = formulas.hardest(ops, y) if rows else ops.where(y > 0, 0.0 * soft + 1.0, 0.0)
    return formulas.straight_through(ops, corner, soft)


def check_shape(name: str, temperature: Any, shape: Sequence[int]) -> None:
    """Refuse a temperature that would make more events of a site than it has."""
    heat = np.shape(temperature)
    fits = len(heat) <= len(shape)
    if not fits or any(m not in (1, n) for m, n in zip(heat[::-1], shape[::-1], strict=False)):
        raise _errors.bad_temperature_shape(f"The relaxation of {name!r}", heat, shape)


class Chosen:
    """Which sites of a model are relaxed, and whether each that was named has been there."""

    def __init__(self, sites: Iterable[str] | None) -> None:
        if isinstance(sites, str):
            raise _errors_inference.not_names("relax", "sites", sites)
        self.names = None if sites is None else frozenset(sites)
        self.found: set[str] = set()

    def has(self, name: str, law: str, discrete: bool, observed: bool) -> bool:
        """Whether a site is to be relaxed; an error if it was named and can't be."""
        latent = discrete and not observed
        if latent:
            self.found.add(name)
        if self.names is None or name not in self.names:
            return latent and self.names is None
        if not latent:
            raise _errors_inference.named_otherwise(name, law, observed)
        return True

    def check(self) -> None:
        """Refuse names that the model has not drawn, once it has run."""
        missing = (self.names or frozenset()) - self.found
        if missing:
            raise _errors_inference.never_seen(missing, self.found)
