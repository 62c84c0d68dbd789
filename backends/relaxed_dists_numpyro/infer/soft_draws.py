"""Handlers of REBAR and RELAX, for hard draws and for soft draws with the same noise."""

from collections.abc import Callable, Collection
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from numpyro.primitives import Messenger

from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists._infer import unbiased
from relaxed_dists._infer.unbiased import Relaxation
from relaxed_dists_jax.noise import gumbel, logistic
from relaxed_dists_jax.ops import compute_dtype, ops

from ..distributions import sites
from .unbiased import latent, with_estimator


class HardDraws(Messenger):
    """Draws hard values at the sites of a guide that have a ``GumbelSoftmax`` estimator.

    Attributes:
        found: The hard and the soft draw of each site, by the site's name.
        logits: The logits of each site, by name, through which gradients pass.
    """

    _estimator: Any = None

    def __init__(self, elbo: str, fn: Callable[..., Any]) -> None:
        super().__init__(fn)
        self._elbo = elbo
        self.found: dict[str, Relaxation] = {}
        self.logits: dict[str, Array] = {}

    def process_message(self, msg: dict[str, Any]) -> None:
        """Draw a site that has a ``GumbelSoftmax`` estimator."""
        if not latent(msg) or msg["value"] is not None:
            return
        if not unbiased.is_relaxed(self._elbo, sites, msg):
            return
        name, fn = msg["name"], msg["fn"]
        base = sites.innermost(fn)
        shape = fn.shape()
        logits = jnp.broadcast_to(base.logits.astype(compute_dtype(base.logits)), shape)
        event_dim, key = base._family.event_dim, msg["kwargs"]["rng_key"]
        noise = (gumbel if event_dim else logistic)(key, shape, logits.dtype)
        temperature = lax.stop_gradient(base.estimator.temperature).astype(logits.dtype)
        temperature = jnp.broadcast_to(temperature, shape[: len(shape) - event_dim])
        draw = Relaxation(ops, event_dim > 0, lax.stop_gradient(logits), noise, temperature)
        self.found[name], self.logits[name] = draw, logits
        msg["value"] = self.value(name, draw).astype(base.logits.dtype)
        msg["fn"] = with_estimator(fn, self._estimator)

    def value(self, name: str, draw: Relaxation) -> Array:
        """The value of a site: the hard draw."""
        return draw.hard


class Redraws(HardDraws):
    """Runs the guide again, with given values at some sites and soft ones at all others."""

    # Any estimator would do; without one, NumPyro would stop the gradient through the value.
    _estimator = GumbelSoftmax(1.0, hard=False)

    def __init__(self, elbo: str, fn: Callable[..., Any], given: dict[str, Array]) -> None:
        super().__init__(elbo, fn)
        self._given = given

    def value(self, name: str, draw: Relaxation) -> Array:
        """The value of a site: the given one, or a soft draw."""
        return self._given[name] if name in self._given else draw.again(self.logits[name])


class SoftScores(Messenger):
    """Lets a model's sites score soft values."""

    def __init__(self, elbo: str, fn: Callable[..., Any], names: Collection[str]) -> None:
        super().__init__(fn)
        self._elbo, self._names = elbo, names

    def process_message(self, msg: dict[str, Any]) -> None:
        """Replace the distribution by one that scores soft values, since it does not check them."""
        if latent(msg) and msg["name"] in self._names:
            unbiased.check_soft(self._elbo, sites, msg)
            msg["fn"] = with_estimator(msg["fn"])
