"""The draws of REBAR and RELAX: hard ones, and soft ones of the same noise."""

from collections.abc import Callable, Collection
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from numpyro.primitives import Messenger

from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists._infer import unbiased
from relaxed_dists._infer.unbiased import Relaxation

from .._jax.noise import gumbel, logistic
from .._jax.ops import compute_dtype, ops
from ..distributions import sites
from ..distributions.straight_through import _HardValue
from .unbiased import latent, plain


class Draws(Messenger):
    """Draws the relaxed sites of a guide, hard.

    Attributes:
        found: The draws, by name.
        logits: Their logits, with a gradient.
    """

    _estimator: Any = None

    def __init__(self, elbo: str, fn: Callable[..., Any]) -> None:
        super().__init__(fn)
        self._elbo = elbo
        self.found: dict[str, Relaxation] = {}
        self.logits: dict[str, Array] = {}

    def process_message(self, msg: dict[str, Any]) -> None:
        """Draw a relaxed site."""
        if not latent(msg) or msg["value"] is not None:
            return
        if not unbiased.is_relaxed(self._elbo, sites, _HardValue, msg):
            return
        name, fn = msg["name"], msg["fn"]
        law = sites.innermost(fn)
        shape = fn.shape()
        logits = jnp.broadcast_to(law.logits.astype(compute_dtype(law.logits)), shape)
        noise = (gumbel if law._rows else logistic)(msg["kwargs"]["rng_key"], shape, logits.dtype)
        heat = lax.stop_gradient(law.estimator.temperature).astype(logits.dtype)
        heat = jnp.broadcast_to(heat, shape[: len(shape) - law._rows])
        draw = Relaxation(ops, law._rows, lax.stop_gradient(logits), noise, heat)
        self.found[name], self.logits[name] = draw, logits
        msg["value"] = self.value(name, draw).astype(law.logits.dtype)
        msg["fn"] = plain(fn, self._estimator)

    def value(self, name: str, draw: Relaxation) -> Array:
        """The value of a site."""
        return draw.hard


class Again(Draws):
    """The guide once more: some sites at given values, the others relaxed, of the same noise."""

    _estimator = GumbelSoftmax(1.0, hard=False)  # any: NumPyro stops the gradient of a law of none

    def __init__(self, elbo: str, fn: Callable[..., Any], given: dict[str, Array]) -> None:
        super().__init__(elbo, fn)
        self._given = given

    def value(self, name: str, draw: Relaxation) -> Array:
        """The value of a site."""
        return self._given[name] if name in self._given else draw.again(self.logits[name])


class Softly(Messenger):
    """Scores a model's sites at soft values."""

    def __init__(self, elbo: str, fn: Callable[..., Any], names: Collection[str]) -> None:
        super().__init__(fn)
        self._elbo, self._names = elbo, names

    def process_message(self, msg: dict[str, Any]) -> None:
        """Leave the check of the value out."""
        if latent(msg) and msg["name"] in self._names:
            unbiased.check_soft(self._elbo, sites, msg)
            msg["fn"] = plain(msg["fn"])
