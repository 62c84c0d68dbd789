"""Handlers of REBAR and RELAX, for hard draws and for soft draws with the same noise."""

from collections.abc import Collection
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor

from relaxed_dists._infer import unbiased
from relaxed_dists._infer.unbiased import Relaxation
from relaxed_dists_torch.noise import gumbel, logistic
from relaxed_dists_torch.ops import compute_dtype, ops

from ..distributions import sites
from .unbiased import latent, without_estimator


class HardDraws(Messenger):
    """Draws hard values at the sites of a guide that have a ``GumbelSoftmax`` estimator.

    Attributes:
        found: The hard and the soft draw of each site, by the site's name.
        logits: The logits of each site, by name, through which gradients pass.
        parents: The names of the sites on which each site's logits depend, if ``track`` is true.
    """

    def __init__(self, elbo: str, track: bool = False) -> None:
        super().__init__()
        self._elbo, self._track = elbo, track
        self.found: dict[str, Relaxation] = {}
        self.logits: dict[str, Tensor] = {}
        self.parents: dict[str, frozenset[str]] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if not latent(msg):
            return
        if not unbiased.is_relaxed(self._elbo, sites, msg):
            return
        name, fn = msg["name"], msg["fn"]
        base = sites.innermost(fn)
        shape = fn.shape()
        logits = base.logits.to(compute_dtype(base.logits)).expand(shape)
        self.parents[name] = get_provenance(logits)
        logits = detach_provenance(logits)
        noise = (gumbel if base._family.event_dim else logistic)(torch.Size(shape), logits)
        self.value(msg, name, base, logits, noise)
        msg["done"] = True
        msg["fn"] = without_estimator(fn)

    def value(self, msg: Any, name: str, base: Any, logits: Tensor, noise: Tensor) -> None:
        """Set the site's value to a hard draw, and store the draw and the logits."""
        batch = logits.shape[: logits.dim() - base._family.event_dim]
        temperature = base.estimator.temperature.detach().to(logits.dtype)
        temperature = detach_provenance(temperature).expand(batch)
        draw = Relaxation(ops, base._family.event_dim > 0, logits.detach(), noise, temperature)
        self.found[name], self.logits[name] = draw, logits
        hard = draw.hard.to(base.logits.dtype)
        msg["value"] = track_provenance(hard, frozenset({name})) if self._track else hard


class Redraws(HardDraws):
    """Runs the guide again, with given values at some sites and soft ones at all others."""

    def __init__(self, elbo: str, given: dict[str, Tensor], draws: HardDraws) -> None:
        super().__init__(elbo)
        self.given, self.draws = given, draws

    def value(self, msg: Any, name: str, base: Any, logits: Tensor, noise: Tensor) -> None:
        """Set the site's value: the given one, or a soft one from the noise of the hard draw."""
        value = self.given.get(name)
        value = self.draws.found[name].again(logits) if value is None else value
        msg["value"] = value.to(base.logits.dtype)


class SoftScores(Messenger):
    """Lets a model's sites score soft values; with hard=True, only refuses relaxed sites."""

    def __init__(self, elbo: str, names: Collection[str], hard: bool = False) -> None:
        super().__init__()
        self._elbo, self._names, self._hard = elbo, names, hard

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self._names and not msg["is_observed"]:
            unbiased.check_soft(self._elbo, sites, msg, self._hard)
            msg["fn"] = msg["fn"] if self._hard else without_estimator(msg["fn"])
