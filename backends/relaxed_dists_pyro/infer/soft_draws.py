"""The draws of REBAR and RELAX: hard ones, and soft ones of the same noise."""

from collections.abc import Collection
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor

from relaxed_dists._infer import unbiased
from relaxed_dists._infer.unbiased import Relaxation

from .._torch.noise import gumbel, logistic
from .._torch.ops import compute_dtype, ops
from ..distributions import sites
from ..distributions.straight_through import _HardValue
from .unbiased import latent, plain


class Draws(Messenger):
    """Draws the relaxed sites of a guide: hard at first, then again, of the same noise.

    Attributes:
        found: The draws, by name.
        logits: Their logits, with a graph.
        parents: The names of the sites that the logits depend on, where that is tracked.
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
        if not unbiased.is_relaxed(self._elbo, sites, _HardValue, msg):
            return
        name, fn = msg["name"], msg["fn"]
        law = sites.innermost(fn)
        shape = fn.shape()
        logits = law.logits.to(compute_dtype(law.logits)).expand(shape)
        self.parents[name] = get_provenance(logits)
        logits = detach_provenance(logits)
        noise = (gumbel if law._rows else logistic)(torch.Size(shape), logits)
        self.value(msg, name, law, logits, noise)
        msg["done"] = True
        msg["fn"] = plain(fn)

    def value(self, msg: Any, name: str, law: Any, logits: Tensor, noise: Tensor) -> None:
        """Give the site its value."""
        heat = law.estimator.temperature.detach().to(logits.dtype)
        heat = detach_provenance(heat).expand(logits.shape[: logits.dim() - law._rows])
        draw = Relaxation(ops, law._rows, logits.detach(), noise, heat)
        self.found[name], self.logits[name] = draw, logits
        hard = draw.hard.to(law.logits.dtype)
        msg["value"] = track_provenance(hard, frozenset({name})) if self._track else hard


class Again(Draws):
    """The guide once more: some sites at given values, the others relaxed, of the same noise."""

    def __init__(self, elbo: str, given: dict[str, Tensor], draws: Draws) -> None:
        super().__init__(elbo)
        self.given, self.draws = given, draws

    def value(self, msg: Any, name: str, law: Any, logits: Tensor, noise: Tensor) -> None:
        """Give the site its value; the noise just drawn is not used."""
        value = self.given.get(name)
        value = self.draws.found[name].again(logits) if value is None else value
        msg["value"] = value.to(law.logits.dtype)


class Softly(Messenger):
    """Scores a model's sites at soft values; or at hard ones, of which a density says nothing."""

    def __init__(self, elbo: str, names: Collection[str], hard: bool = False) -> None:
        super().__init__()
        self._elbo, self._names, self._hard = elbo, names, hard

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self._names and not msg["is_observed"]:
            unbiased.check_soft(self._elbo, sites, msg, self._hard)
            msg["fn"] = msg["fn"] if self._hard else plain(msg["fn"])
