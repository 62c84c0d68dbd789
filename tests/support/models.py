"""Four small models, each written once for both frameworks, and their joint mass in NumPy.

A program is a function of a backend. Its joint mass in NumPy shares no code with the program. From
the joint mass, enumeration gives the evidence, the posterior and the ELBO of any mean-field guide.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal, norm

from harness import Backend

Values = dict[str, np.ndarray]

# Three components; the first point is at one of the means, the others are between two.
WEIGHTS, MEANS, POINTS = np.array([0.5, 0.3, 0.2]), np.array([-2.0, 0.0, 1.5]), [-2.0, -0.8, 0.9]
# A chain of three states that mostly stays where it is.
STAYS = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7]])
SIGNALS = [-1.5, -0.4, 0.2, 1.4]
# Four causes, which explain one another away, of five effects, three of which are present.
CAUSES = np.array([0.2, 0.3, 0.1, 0.25])
LINKS = np.random.default_rng(0).uniform(0.05, 0.8, (4, 5))
EFFECTS = np.array([1.0, 1.0, 0.0, 1.0, 0.0])
LEAK = 0.05
# Four features, the last two correlated; the targets depend on the first and the third.
FEATURES = np.random.default_rng(1).normal(size=(8, 4))
FEATURES[:, 3] = 0.8 * FEATURES[:, 2] + 0.4 * FEATURES[:, 3]
TARGETS = FEATURES @ [0.9, 0.0, 0.7, 0.0] + np.random.default_rng(2).normal(0, 0.5, 8)
GATE, NOISE = 0.3, 0.8  # the probability of a gate, the standard deviation of the noise


def mixture(pp: Backend) -> None:
    """Three normal components of known means: the exact posterior is a mean-field one."""
    with pp.ppl.plate("points", 3):
        z = pp.ppl.sample("z", pp.names.OneHotCategorical(probs=pp.array(WEIGHTS)))
        pp.ppl.sample("x", pp.dist.Normal(z @ pp.array(MEANS), 1.0), obs=pp.array(POINTS))


def mixture_joint(z: Values) -> np.ndarray:
    """The log joint mass: each point's component has a weight and a mean."""
    k = z["z"].argmax(-1)
    return (np.log(WEIGHTS[k]) + norm.logpdf(POINTS, MEANS[k], 1.0)).sum(-1)


def chain(pp: Backend) -> None:
    """A hidden Markov model, its states unrolled as one-hot sites."""
    probs = pp.array(WEIGHTS)
    for t, signal in enumerate(SIGNALS):
        z = pp.ppl.sample(f"z{t}", pp.names.OneHotCategorical(probs=probs))
        pp.ppl.sample(f"x{t}", pp.dist.Normal(z @ pp.array(MEANS), 1.0), obs=pp.array(signal))
        probs = z @ pp.array(STAYS)


def linear_chain(pp: Backend) -> None:
    """The joint of `chain`, as a factor that is linear in each state, over a uniform prior."""
    factors, move = 4 * np.log(3.0), pp.array(np.log(WEIGHTS))
    for t, signal in enumerate(SIGNALS):
        z = pp.ppl.sample(f"z{t}", pp.names.OneHotCategorical(logits=pp.array(np.zeros(3))))
        factors = factors + (z * (move + pp.array(norm.logpdf(signal, MEANS, 1.0)))).sum(-1)
        move = z @ pp.array(np.log(STAYS))
    pp.ppl.factor("joint", factors)


def chain_joint(z: Values) -> np.ndarray:
    """The log joint mass: the first state, the moves between states, and each state's signal."""
    k = np.stack([z[f"z{t}"].argmax(-1) for t in range(4)], -1)
    moves = np.log(STAYS[k[:, :-1], k[:, 1:]]).sum(-1)
    return np.log(WEIGHTS[k[:, 0]]) + moves + norm.logpdf(SIGNALS, MEANS[k], 1.0).sum(-1)


def noisy_or(pp: Backend) -> None:
    """An effect is absent if the leak and each cause that is there fail to bring it about."""
    with pp.ppl.plate("causes", 4):
        z = pp.ppl.sample("z", pp.names.Bernoulli(probs=pp.array(CAUSES)))
    absent = (1 - LEAK) * pp.xp.exp(z @ pp.array(np.log1p(-LINKS)))
    with pp.ppl.plate("effects", 5):
        pp.ppl.sample("x", pp.dist.Bernoulli(probs=1 - absent), obs=pp.array(EFFECTS))


def noisy_or_joint(z: Values) -> np.ndarray:
    """The log joint mass: the causes' prior, and a product of failures for each effect."""
    causes = z["z"]
    absent = (1 - LEAK) * np.where(causes[..., None] == 1, 1 - LINKS, 1.0).prod(-2)
    prior = np.log(np.where(causes == 1, CAUSES, 1 - CAUSES)).sum(-1)
    return prior + np.log(np.where(EFFECTS == 1, 1 - absent, absent)).sum(-1)


def gates(pp: Backend) -> None:
    """A regression whose weights, standard normal where their gate is open, are integrated out."""
    z = pp.ppl.sample("z", pp.names.Bernoulli(probs=pp.array(np.full(4, GATE))).to_event(1))
    x = pp.array(FEATURES)
    covariance = (x * z[..., None, :]) @ x.T + NOISE**2 * pp.array(np.eye(8))
    loc = 0 * covariance[..., 0]  # in the covariance's batch shape: NumPyro does not broadcast loc
    d = pp.dist.MultivariateNormal(loc, covariance)
    pp.ppl.sample("y", d, obs=pp.array(TARGETS))


def gates_joint(z: Values) -> np.ndarray:
    """The log joint mass, where only the weights of open gates have a variance."""
    found = []
    for gate in z["z"]:
        used = FEATURES[:, gate == 1]
        y = multivariate_normal.logpdf(TARGETS, cov=used @ used.T + NOISE**2 * np.eye(8))
        found.append(y + np.log(np.where(gate == 1, GATE, 1 - GATE)).sum())
    return np.array(found)


@dataclass(frozen=True)
class Model:
    """A model to enumerate; its variables are those of all latent sites, one after the other."""

    program: Callable[[Backend], None]
    log_joint: Callable[[Values], np.ndarray]
    shapes: dict[str, tuple[int, ...]]  # of the values of each latent site
    binary: bool
    plate: str | None = None  # the plate of the latent site
    event: bool = False  # whether the site's variables are one event

    @property
    def size(self) -> tuple[int, int]:
        """How many variables there are, and of how many categories."""
        entries, k = sum(map(math.prod, self.shapes.values())), 2 if self.binary else 3
        return (entries, k) if self.binary else (entries // k, k)

    @functools.cached_property
    def choices(self) -> np.ndarray:
        """All joint values, a row each, as the category of each variable."""
        variables, k = self.size
        return np.array(list(itertools.product(range(k), repeat=variables)))

    @functools.cached_property
    def values(self) -> Values:
        """All joint values, as values of the sites, along the first axis."""
        flat = (
            self.choices if self.binary else np.eye(3)[self.choices].reshape(-1, 3 * self.size[0])
        )
        ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()])[:-1]
        parts = zip(self.shapes.items(), np.split(flat, ends, -1), strict=True)
        return {name: part.reshape(-1, *shape) for (name, shape), part in parts}

    @functools.cached_property
    def joint(self) -> np.ndarray:
        """The log joint mass of each joint value and the observations."""
        return self.log_joint(self.values)

    @property
    def evidence(self) -> float:
        """The log evidence."""
        return float(logsumexp(self.joint))

    @property
    def marginals(self) -> np.ndarray:
        """The exact posterior of each variable, a row each."""
        is_in = self.choices[..., None] == np.arange(self.size[1])
        return np.einsum("a,avk->vk", np.exp(self.joint - self.evidence), is_in)

    def rows(self, logits: Values) -> np.ndarray:
        """The log probabilities of each variable by the logits of the sites."""
        flat = np.concatenate([logits[name].ravel() for name in self.shapes])
        rows = np.stack([0 * flat, flat], -1) if self.binary else flat.reshape(-1, 3)
        return log_softmax(rows, -1)

    def bound(self, rows: np.ndarray) -> float:
        """The exact ELBO of log probabilities, a row for each variable."""
        log_q = rows[np.arange(len(rows)), self.choices].sum(-1)
        return float(np.exp(log_q) @ (self.joint - log_q))

    def ascent(self, rows: np.ndarray) -> np.ndarray:
        """Coordinate ascent: 100 rounds that set each variable to the best, given the others."""
        rows, variables = rows.copy(), np.arange(len(rows))
        for variable in np.tile(variables, 100):
            log_q = rows[variables, self.choices]
            log_q[:, variable] = 0
            expected = np.exp(log_q.sum(-1)) * self.joint
            at = self.choices[:, variable]
            rows[variable] = log_softmax(np.bincount(at, expected))
        return rows

    @functools.cached_property
    def best(self) -> float:
        """The ELBO of the best mean-field posterior: the highest after ascent from 10 starts."""
        rng = np.random.default_rng(0)
        starts = log_softmax(rng.normal(0, 2, (10, *self.size)), -1)
        return max(self.bound(self.ascent(start)) for start in starts)


MODELS = {
    "mixture": Model(mixture, mixture_joint, {"z": (3, 3)}, False, "points"),
    "chain": Model(chain, chain_joint, {f"z{t}": (3,) for t in range(4)}, False),
    "noisy-or": Model(noisy_or, noisy_or_joint, {"z": (4,)}, True, "causes"),
    "gates": Model(gates, gates_joint, {"z": (4,)}, True, event=True),
}
