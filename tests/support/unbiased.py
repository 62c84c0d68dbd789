"""Two models whose ELBO's gradient is a sum over all states, and its estimates by a loss.

A run has many copies of the model in a plate, each with its own parameters, so that one gradient
has an independent estimate for each copy.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax
from scipy.stats import norm

from harness import Backend

Params = dict[str, np.ndarray]
X, MASK, SCALE = np.array([0.8, -0.4, 0.5]), np.array([True, True, False]), 2.0
PRIOR = np.array([0.3, -0.5, 0.0, 0.2])
W, V, M = np.array([1.0, -1.0, 0.5]), np.array([0.4, -0.6, 0.9]), np.array([0.5, -1.0, 0.2])
MORE = -6.0  # a constant in the log likelihood, like that of more data
TILT = np.array([0.7, -1.1])


def bernoulli(logits: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The log mass of Bernoulli values."""
    return np.log(np.where(value == 1, expit(logits), expit(-logits)))


def plates(pp: Backend, copies: int) -> None:
    """A one-hot site, and scaled binary sites in a plate, the last of which is masked."""
    with pp.ppl.plate("copies", copies, dim=-2):
        z = pp.ppl.sample("z", pp.names.OneHotCategorical(logits=pp.array(PRIOR)))
        mu = pp.ppl.param("mu")
        with (
            pp.ppl.plate("rows", 3, dim=-1),
            pp.handlers.scale(scale=SCALE),
            pp.handlers.mask(mask=pp.array(MASK, "bool")),
        ):
            b = pp.ppl.sample("b", pp.names.Bernoulli(logits=z @ pp.array([*W, 0.3])))
            mean = mu * b * pp.xp.exp(z @ pp.array([*V, 0.0]))
            pp.ppl.sample("x", pp.dist.Normal(mean, 1.0), obs=pp.array(X))


def plates_guide(pp: Backend, copies: int, estimator: Any) -> None:
    """Sites that don't depend on one another, with a masked category."""
    theta = pp.ppl.param("theta")
    masked = pp.array(np.full((copies, 1, 1), -np.inf))
    theta = pp.xp.concatenate([theta, masked], -1)
    with pp.ppl.plate("copies", copies, dim=-2):
        pp.ppl.sample("z", pp.names.OneHotCategorical(logits=theta, estimator=estimator))
        with (
            pp.ppl.plate("rows", 3, dim=-1),
            pp.handlers.scale(scale=SCALE),
            pp.handlers.mask(mask=pp.array(MASK, "bool")),
        ):
            phi = pp.ppl.param("phi")
            pp.ppl.sample("b", pp.names.Bernoulli(logits=phi, estimator=estimator))


def plates_bound(p: Params) -> float:
    """The exact ELBO: a sum over the 12 states of the unmasked sites."""
    log_q, prior, found = log_softmax(p["theta"][0]), log_softmax(PRIOR), 0.0
    for k, *values in itertools.product(range(3), range(2), range(2)):
        b = np.array(values)
        q = bernoulli(p["phi"][:2], b).sum()
        joint = bernoulli(W[k], b).sum()
        joint += norm.logpdf(X[:2], p["mu"][0] * b * np.exp(V[k]), 1.0).sum()
        f = prior[k] - log_q[k] + SCALE * (joint - q)
        found += np.exp(log_q[k] + q) * f
    return found


def chain(pp: Backend, copies: int) -> None:
    """A one-hot site, a binary event of two, and a continuous site."""
    with pp.ppl.plate("copies", copies, dim=-1):
        z = pp.ppl.sample("z", pp.names.OneHotCategorical(logits=pp.array(PRIOR[:3])))
        prior = pp.names.Bernoulli(logits=(z @ pp.array(W))[..., None] * pp.array([1.0, 0.5]))
        b = pp.ppl.sample("b", prior.to_event(1))
        u = pp.ppl.sample("u", pp.dist.Normal(z @ pp.array(M), 1.0))
        mean = pp.xp.sin(2 * z @ pp.array(V)) * (b @ pp.array(TILT)) + pp.ppl.param("mu") * u
        pp.ppl.sample("x", pp.dist.Normal(mean, 1.0), obs=pp.array(X[0]))
        pp.ppl.factor("more", MORE * z.sum(-1))


def chain_guide(pp: Backend, copies: int, estimator: Any) -> None:
    """Each site depends on the ones before."""
    theta, phi, loc = (pp.ppl.param(name) for name in ("theta", "phi", "loc"))
    with pp.ppl.plate("copies", copies, dim=-1):
        z = pp.ppl.sample("z", pp.names.OneHotCategorical(logits=theta, estimator=estimator))
        logits = (z[..., None] * phi).sum(-2)
        b = pp.ppl.sample("b", pp.names.Bernoulli(logits=logits, estimator=estimator).to_event(1))
        mean = b @ pp.array(TILT) + (z * theta).sum(-1) * loc
        pp.ppl.sample("u", pp.dist.Normal(mean, pp.xp.exp(loc)))


def chain_bound(p: Params) -> float:
    """The exact ELBO: a sum over 12 states of Gaussian integrals in closed form."""
    log_q, prior, found = log_softmax(p["theta"]), log_softmax(PRIOR[:3]), 0.0
    for k, *values in itertools.product(range(3), range(2), range(2)):
        b = np.array(values)
        q = log_q[k] + bernoulli(p["phi"][k], b).sum()
        joint = prior[k] + bernoulli(W[k] * np.array([1.0, 0.5]), b).sum()
        mean, scale = b @ TILT + p["theta"][k] * p["loc"], np.exp(p["loc"])
        joint += norm.logpdf(mean, M[k], 1.0) - scale**2 / 2 + np.log(scale)
        joint += np.log(2 * np.pi) / 2 + 0.5  # from the entropy of the Gaussian guide
        seen = np.sin(2 * V[k]) * (b @ TILT) + p["mu"] * mean
        joint += norm.logpdf(X[0], seen, 1.0) - (p["mu"] * scale) ** 2 / 2
        found += np.exp(q) * (joint - q)
    return found


@dataclass(frozen=True)
class Problem:
    """A model, its guide, its exact ELBO, and parameters."""

    model: Callable[..., None]
    guide: Callable[..., None]
    bound: Callable[[Params], float]
    params: Params

    def exact(self) -> Params:
        """The gradient of the bound, by central differences: right to 1e-9."""
        found = {}
        for name, x in self.params.items():
            gradient = np.zeros_like(x)
            for at in np.ndindex(x.shape):
                ends = []
                for step in (1e-5, -1e-5):
                    moved = x.copy()
                    moved[at] += step
                    ends.append(self.bound({**self.params, name: moved}))
                gradient[at] = (ends[0] - ends[1]) / 2e-5
            found[name] = gradient
        return found

    def estimates(
        self,
        backend: Backend,
        loss: Any,
        copies: int,
        seed: int,
        *more: Params,
        temperature: float | None = 0.6,
    ) -> list[tuple[Params, Params]]:
        """The gradient estimates of a loss, one for each copy, and the gradients by `more`.

        There is one pair for each of the parameter values `more`, all with the same noise.
        """
        estimator = None if temperature is None else backend.names.GumbelSoftmax(temperature)

        def guide() -> None:
            for name in more[0] if more else ():
                backend.ppl.param(name)
            self.guide(backend, copies, estimator)

        tiled = {k: np.broadcast_to(x, (copies, *x.shape)) for k, x in self.params.items()}
        model = functools.partial(self.model, backend, copies)
        slopes, pairs = backend.language.slopes(loss, model, guide, seed), []
        for extra in more or ({},):
            params = {k: backend.array(np.array(x)) for k, x in {**tiled, **extra}.items()}
            _, found = slopes(params)
            rest = {k: found[k] for k in extra if k in found}
            pairs.append(({k: -found[k] for k in tiled}, rest))
        return pairs


PROBLEMS = {
    "plates": Problem(
        plates,
        plates_guide,
        plates_bound,
        {
            "theta": np.array([[0.4, -0.3, 0.8]]),
            "phi": np.array([0.5, -1.0, 0.3]),
            "mu": np.array([1.2]),
        },
    ),
    "chain": Problem(
        chain,
        chain_guide,
        chain_bound,
        {
            "theta": np.array([0.4, -0.3, 0.8]),
            "phi": np.array([[0.5, -1.0], [-0.4, 0.2], [0.1, 1.5]]),
            "loc": np.array(-0.3),
            "mu": np.array(0.7),
        },
    ),
}
