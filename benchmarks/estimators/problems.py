"""Four problems on which the estimators are compared, in NumPyro.

Each has data to train on, to choose a step size by, and to test on; a model and a guide; and scores
in nats a datum, which are the discrete model's. Where the sum over all values can be computed, the
score is exact, and the sum itself can be trained.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
from jax.nn import log_softmax, softmax
from jax.scipy.special import logsumexp
from numpyro.contrib.control_flow import scan
from numpyro.distributions import Categorical, MixtureSameFamily, Normal

from relaxed_dists.numpyro import OneHotCategorical, StraightThrough

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))
import digits_data
from digits_vae_numpyro import DigitsVAE, dense

Array = Any
Scores = dict[str, float]
SAMPLES = 100  # of a bound


class Parts(NamedTuple):
    """Data to train on, to choose the step size by, and to test on."""

    train: Array
    validation: Array
    test: Array


class Exact(NamedTuple):
    """Another way to train the same model, without noise: a model, and a guide or None."""

    model: Callable[..., None]
    guide: Callable[..., None] | None = None


class Problem:
    """What the four have in common.

    Attributes:
        about: The problem in a few words.
        steps: The number of steps of a training.
        rates: The step sizes that are tried.
        start: The temperature at the first step.
        batch: The data of a step; None for all of them.
        refused: The ways that the library refuses for this problem.
        parts: The data.
    """

    about: str
    steps: int
    rates: tuple[float, ...]
    start = 1.0
    batch: int | None = None
    refused: tuple[str, ...] = ()
    parts: Parts

    def model(self, x: Array, rows: Array) -> None:
        """The discrete model of the data x."""
        raise NotImplementedError

    def guide(self, x: Array, rows: Array, estimator: Any = None) -> None:
        """The guide of the data x, whose indices are the rows."""
        raise NotImplementedError

    def surrogate(self, values: dict[str, Array], x: Array) -> Array:
        """A number for each datum, by a network of the datum and its values; for RELAX_ELBO."""
        raise NotImplementedError

    def scores(self, params: dict[str, Array], seed: int, x: Array) -> Scores:
        """The nats a datum of the discrete model; higher is better. The first is the score."""
        raise NotImplementedError

    def exact(self) -> dict[str, Exact]:
        """The ways without noise, by the names that the tables have for them."""
        return {}


def network(x: Array, values: Array) -> Array:
    """A number for each row, by a layer of 32 units."""
    hidden = jnp.tanh(dense("surrogate.1", jnp.concatenate((x, values), -1), 32))
    return dense("surrogate.2", hidden, 1)[..., 0]


class Digits(Problem):
    """The VAE of the demo: 20 variables of 10 classes for an image of 64 pixels."""

    about = "VAE of the digits"
    steps, rates, batch = 600, (0.003, 0.01, 0.03), digits_data.BATCH

    def __init__(self) -> None:
        data = digits_data.load()
        self.parts = Parts(*map(jnp.asarray, (data.train[:1100], data.train[1100:], data.test)))
        self.vae = DigitsVAE(data.train[:1100])

    def model(self, x: Array, rows: Array) -> None:
        """The demo's model, of a minibatch."""
        self.vae.model(x)

    def guide(self, x: Array, rows: Array, estimator: Any = None) -> None:
        """The demo's guide, with another estimator."""
        with numpyro.plate("images", len(x)):
            d = OneHotCategorical(logits=self.vae.encoder(x), estimator=estimator)
            numpyro.sample("z", d.to_event(1))

    def surrogate(self, values: dict[str, Array], x: Array) -> Array:
        """A network of an image and its code."""
        return network(x, values["z"].reshape(len(x), -1))

    @partial(jax.jit, static_argnums=0)
    def bounds(self, params: dict[str, Array], key: Array, x: Array) -> tuple[Array, Array]:
        """The numbers of evidence_bounds, compiled once for all trainings."""
        with numpyro.handlers.substitute(data=params):
            q = OneHotCategorical(logits=self.vae.encoder(x))
            z = q.sample(key, (SAMPLES,))
            log_w = self.vae.pixels(z).log_prob(x) + self.vae.prior().log_prob(z)
            log_w = log_w - q.log_prob(z).sum(-1)
        return log_w.mean(), (logsumexp(log_w, 0) - jnp.log(SAMPLES)).mean()

    def scores(self, params: dict[str, Array], seed: int, x: Array) -> Scores:
        """Bounds with 100 samples."""
        elbo, bound = self.bounds(params, jax.random.key(seed), x)
        return {"ELBO": float(elbo), "importance-weighted": float(bound)}


class Mixture(Problem):
    """A mixture of 100 normal distributions in the plane, whose means are learned."""

    about = "mixture of 100 components"
    steps, rates = 200, (0.1, 0.3, 1.0)
    components, scale = 100, 0.5

    def __init__(self, points: int = 500) -> None:
        keys = jax.random.split(jax.random.key(0), 3)
        means = jax.random.uniform(keys[0], (self.components, 2), minval=-8.0, maxval=8.0)
        z = jax.random.randint(keys[1], (3 * points,), 0, self.components)
        x = means[z] + self.scale * jax.random.normal(keys[2], (3 * points, 2))
        self.parts = Parts(*jnp.split(x, 3))

    def means(self) -> Array:
        """The means, which start at data."""
        start = partial(jax.random.choice, a=self.parts.train, shape=(self.components,))
        return numpyro.param("means", lambda key: start(key, replace=False))

    def each(self, means: Array, x: Array) -> Array:
        """The log density of each datum under each component."""
        return Normal(means, self.scale).log_prob(x[:, None]).sum(-1)

    def model(self, x: Array, rows: Array) -> None:
        """The mean of a datum is the row of its component."""
        means = self.means()
        with numpyro.plate("points", len(x)):
            z = numpyro.sample("z", OneHotCategorical(logits=jnp.zeros(self.components)))
            numpyro.sample("x", Normal(z @ means, self.scale).to_event(1), obs=x)

    def guide(self, x: Array, rows: Array, estimator: Any = None) -> None:
        """Logits for each datum, as AutoRelaxed has them."""
        logits = numpyro.param("logits", jnp.zeros((len(self.parts.train), self.components)))
        with numpyro.plate("points", len(x)):
            numpyro.sample("z", OneHotCategorical(logits=logits[rows], estimator=estimator))

    def surrogate(self, values: dict[str, Array], x: Array) -> Array:
        """A network of a datum and its component."""
        return network(x, values["z"])

    def scores(self, params: dict[str, Array], seed: int, x: Array) -> Scores:
        """The exact evidence."""
        each = self.each(params["means"], x)
        return {"evidence": float(logsumexp(each, -1).mean() - jnp.log(self.components))}

    def exact(self) -> dict[str, Exact]:
        """The sum over the components, and the same model with a likelihood linear in z."""

        def enumerated(x: Array, rows: Array) -> None:
            prior = Categorical(logits=jnp.zeros(self.components))
            d = MixtureSameFamily(prior, Normal(self.means(), self.scale).to_event(1))
            with numpyro.plate("points", len(x)):
                numpyro.sample("x", d, obs=x)

        def weighted(x: Array, rows: Array) -> None:
            each = self.each(self.means(), x)
            with numpyro.plate("points", len(x)):
                z = numpyro.sample("z", OneHotCategorical(logits=jnp.zeros(self.components)))
                numpyro.factor("x", (z * each).sum(-1))

        through = partial(self.guide, estimator=StraightThrough())
        return {
            "enumeration": Exact(enumerated),
            "StraightThrough(), weighted likelihoods": Exact(weighted, through),
        }


class Chain(Problem):
    """Sequences of a hidden Markov model with five states: levels and transitions are learned."""

    about = "hidden Markov model"
    steps, rates = 300, (0.03, 0.1, 0.3)
    refused = ("REBAR_ELBO(), at 0.5", "RELAX_ELBO(network), at 0.5")
    states, length, scale = 5, 10, 0.5

    def __init__(self, sequences: int = 50) -> None:
        keys = jax.random.split(jax.random.key(0), 2 + self.length)
        stay, forward = 0.7 * jnp.eye(self.states), 0.3 * jnp.roll(jnp.eye(self.states), 1, 1)
        z = jax.random.randint(keys[0], (3 * sequences,), 0, self.states)
        path = [z]
        for key in keys[2 : 1 + self.length]:
            path.append(jax.random.categorical(key, jnp.log(stay + forward + 1e-9)[path[-1]]))
        levels = jnp.stack(path, -1) - (self.states - 1) / 2
        x = levels + self.scale * jax.random.normal(keys[1], levels.shape)
        self.parts = Parts(*jnp.split(x, 3))

    def parameters(self) -> tuple[Array, Array]:
        """The levels, and the logits of the transitions."""
        levels = numpyro.param("levels", partial(jax.random.normal, shape=(self.states,)))
        return levels, numpyro.param("transitions", jnp.zeros((self.states, self.states)))

    def model(self, x: Array, rows: Array) -> None:
        """Each state chooses the row of the next one's probabilities."""
        levels, transitions = self.parameters()
        following = softmax(transitions)

        def step(probs: Array, x: Array) -> tuple[Array, None]:
            with numpyro.plate("sequences", len(x)):
                z = numpyro.sample("z", OneHotCategorical(probs=probs))
                numpyro.sample("x", Normal(z @ levels, self.scale), obs=x)
            return z @ following, None

        scan(step, jnp.full((len(x), self.states), 1 / self.states), x.T)

    def guide(self, x: Array, rows: Array, estimator: Any = None) -> None:
        """A chain too, with logits for each datum, so that it can be the exact posterior."""
        shape = self.length, len(self.parts.train), self.states
        own = numpyro.param("logits", jnp.zeros(shape))[:, rows]
        weights = numpyro.param("weights", jnp.zeros((self.states, self.states)))

        def step(z: Array, own: Array) -> tuple[Array, None]:
            with numpyro.plate("sequences", len(x)):
                d = OneHotCategorical(logits=own + z @ weights, estimator=estimator)
                z = numpyro.sample("z", d)
            return z, None

        scan(step, jnp.zeros((len(x), self.states)), own)

    def surrogate(self, values: dict[str, Array], x: Array) -> Array:
        """A network of a sequence and its states."""
        return network(x, values["z"].swapaxes(0, 1).reshape(len(x), -1))

    def evidence(self, levels: Array, transitions: Array, x: Array) -> Array:
        """The log probability of each sequence, by the forward algorithm."""
        each = Normal(levels, self.scale).log_prob(x[..., None])
        log_p = each[:, 0] - jnp.log(self.states)
        for t in range(1, self.length):
            log_p = logsumexp(log_p[..., None] + log_softmax(transitions), -2) + each[:, t]
        return logsumexp(log_p, -1)

    def scores(self, params: dict[str, Array], seed: int, x: Array) -> Scores:
        """The exact evidence."""
        evidence = self.evidence(params["levels"], params["transitions"], x)
        return {"evidence": float(evidence.mean())}

    def exact(self) -> dict[str, Exact]:
        """The sum over all paths."""

        def enumerated(x: Array, rows: Array) -> None:
            numpyro.factor("x", self.evidence(*self.parameters(), x).sum())

        return {"enumeration": Exact(enumerated)}


class Table(Problem):
    """Each datum is made from one of 50,000 rows of a table: which one is the latent variable."""

    about = "50,000 categories"
    steps, rates, batch, start = 400, (0.001, 0.003, 0.01), 2, 0.5
    width, pixels, hidden, scale = 2, 8, 64, 0.5

    def __init__(self, categories: int = 50_000, rows: int = 2000, tested: int = 200) -> None:
        keys = jax.random.split(jax.random.key(0), 4)
        self.categories = categories
        self.table = jax.random.normal(keys[0], (categories, self.width))
        weights = jax.random.normal(keys[1], (self.width, self.pixels)) / self.width**0.5
        z = jax.random.randint(keys[2], (rows + 2 * tested,), 0, categories)
        x = 2 * jnp.tanh(self.table[z] @ weights)
        x = x + self.scale * jax.random.normal(keys[3], x.shape)
        self.parts = Parts(*jnp.split(x, (rows, rows + tested)))

    def decoder(self, row: Array) -> Array:
        """The mean of a datum that is made from a row of the table."""
        return dense("decoder.2", jnp.tanh(dense("decoder.1", row, self.hidden)), self.pixels)

    def encoder(self, x: Array) -> Array:
        """The logits of the categories, from the distances of the rows to a point."""
        hidden = jnp.tanh(dense("encoder.1", x, self.hidden))
        point = dense("encoder.2", hidden, self.width)
        precision = jnp.exp(numpyro.param("precision", 0.0))
        return precision * (point @ self.table.T - (self.table**2).sum(-1) / 2)

    def model(self, x: Array, rows: Array) -> None:
        """All rows are equally likely."""
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", OneHotCategorical(logits=jnp.zeros(self.categories)))
            mean = self.decoder(z @ self.table)
            numpyro.sample("x", Normal(mean, self.scale).to_event(1), obs=x)

    def guide(self, x: Array, rows: Array, estimator: Any = None) -> None:
        """A network chooses the row."""
        with numpyro.plate("rows", len(x)):
            d = OneHotCategorical(logits=self.encoder(x), estimator=estimator)
            numpyro.sample("z", d)

    def surrogate(self, values: dict[str, Array], x: Array) -> Array:
        """A network of a datum and its row of the table."""
        return network(x, values["z"] @ self.table)

    def each(self, x: Array) -> Array:
        """The log density of each datum for each row of the table, less that of the prior."""
        means = self.decoder(self.table)
        squares = (x**2).sum(-1, keepdims=True) - 2 * x @ means.T + (means**2).sum(-1)
        normaliser = self.pixels * jnp.log(self.scale * (2 * jnp.pi) ** 0.5)
        return -squares / (2 * self.scale**2) - normaliser - jnp.log(self.categories)

    def scores(self, params: dict[str, Array], seed: int, x: Array) -> Scores:
        """The exact ELBO and the exact evidence; without a guide they are equal."""

        @jax.jit
        def computed(params: dict[str, Array], x: Array) -> Array:
            with numpyro.handlers.substitute(data=params):
                each = self.each(x)
                evidence = logsumexp(each, -1)
                if "precision" not in params:
                    return jnp.stack((evidence, evidence)).mean(-1)
                log_q = log_softmax(self.encoder(x))
                return jnp.stack(((jnp.exp(log_q) * (each - log_q)).sum(-1), evidence)).mean(-1)

        elbo, evidence = computed(params, x).tolist()
        return {"ELBO": elbo, "evidence": evidence}

    def exact(self) -> dict[str, Exact]:
        """The sum over all rows."""

        def enumerated(x: Array, rows: Array) -> None:
            numpyro.factor("x", logsumexp(self.each(x), -1).sum())

        return {"enumeration": Exact(enumerated)}


PROBLEMS = {"digits": Digits, "mixture": Mixture, "chain": Chain, "table": Table}
