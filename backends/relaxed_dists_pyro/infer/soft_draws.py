"""The draws of REBAR and RELAX: hard ones, and soft ones of the same noise."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor

from relaxed_dists._infer import unbiased
from relaxed_dists._infer.unbiased import Relaxation

from .._torch.noise import gumbel, logistic
from .._torch.ops import compute_dtype, ops
from ..distributions.sites import discrete, innermost, kind
from .unbiased import BIASED, latent, plain


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
        name, fn = msg["name"], msg["fn"]
        law = innermost(fn)
        if isinstance(law, BIASED):
            raise unbiased.straight_through(self._elbo, name, law)
        if not unbiased.checked_site(self._elbo, name, kind(fn), law, fn.has_rsample):
            return
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

    def __init__(self, elbo: str, sites: Collection[str], hard: bool = False) -> None:
        super().__init__()
        self._elbo, self._sites, self._hard = elbo, sites, hard

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self._sites and not msg["is_observed"]:
            law = innermost(msg["fn"])
            if kind(msg["fn"]) == "relaxed" or not (self._hard or discrete(law)):
                raise unbiased.no_soft_model(self._elbo, msg["name"], law)
            msg["fn"] = msg["fn"] if self._hard else plain(msg["fn"])


def rng_state(state: Any = None) -> Any:
    """The state of torch's generators, set if it is given."""
    if state is not None:
        torch.set_rng_state(state[0])
        if state[1]:
            torch.cuda.set_rng_state_all(state[1])
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda


@contextmanager
def same_noise(state: Any) -> Iterator[None]:
    """Draw from a state on, and leave the generators as they are."""
    now = rng_state()
    rng_state(state)
    try:
        yield
    finally:
        rng_state(now)
