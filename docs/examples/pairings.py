"""Compute what each pairing of model and guide optimises, for one variable of three categories.

The discrete evidence is a sum over categories, the relaxed evidence an integral over the simplex,
and so are the objectives, in NumPy. The table also has each framework's ELBO, from draws. Run
``python pairings.py --help`` for the options.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm

Array = np.ndarray

WEIGHTS = np.array([0.5, 0.3, 0.2])  # z ~ OneHotCategorical(WEIGHTS)
MEANS, X = np.array([-1.0, 0.0, 2.0]), 1.0  # x ~ Normal(z @ MEANS, 1), observed at X
TEMPERATURES = (0.5, 0.2, 0.1, 0.05)
REPEATS, DRAWS = 20, 2000  # estimates by a framework, and draws for each

JOINT = np.log(WEIGHTS) + norm.logpdf(X, MEANS, 1.0)
EVIDENCE = logsumexp(JOINT)
POSTERIOR = JOINT - EVIDENCE

# By the site's distribution in model and guide: the ELBO, and what its objective is.
PAIRINGS = {
    "relaxed / relaxed": ("Trace_ELBO", "a bound of the relaxed evidence"),
    "discrete / hard": ("Trace_ELBO", "a bound of the discrete evidence"),
    "discrete / soft": ("TraceMeanField_ELBO", "Jang et al.'s, a bound of neither"),
    "discrete / relaxed": ("Trace_ELBO", "a mass less a density"),
    "relaxed / discrete": ("Trace_ELBO", "a density less a mass"),
}
NAMES = {"pyro": "Pyro", "numpyro": "NumPyro"}
LOG_SPACE = "discrete / relaxed, in log space"


class Simplex:
    """The trapezoidal rule over the simplex, in log ratios, and densities at a temperature."""

    def __init__(self, temperature: float, nodes: int = 401) -> None:
        self.temperature = temperature
        # Log ratios are sinh(v) for evenly spaced v; the mass beyond the last is below 1e-15.
        v = np.linspace(-1, 1, nodes) * math.asinh(45 / temperature)
        ratios = np.stack(np.broadcast_arrays(np.sinh(v)[:, None], np.sinh(v), 0.0), -1)
        self.log_z = log_softmax(ratios.reshape(-1, 3), -1)
        self.z = np.exp(self.log_z)
        step = (v[1] - v[0]) * np.cosh(v)
        # The volume element of the simplex is that of the log ratios times the product of z.
        self.log_weight = np.log(np.outer(step, step)).ravel() + self.log_z.sum(-1)
        self.log_likelihood = norm.logpdf(X, self.z @ MEANS, 1.0)
        self.log_prior = self.density(np.log(WEIGHTS))

    def density(self, logits: Array) -> Array:
        """The log density of Maddison et al. (2017), definition 1, at the nodes."""
        score = logits - self.temperature * self.log_z
        constant = math.log(2) + 2 * math.log(self.temperature)
        return constant + (score - self.log_z).sum(-1) - 3 * logsumexp(score, -1)

    def evidence(self) -> float:
        """The log evidence of the relaxed model."""
        return float(logsumexp(self.log_weight + self.log_prior + self.log_likelihood))

    def objectives(self, logits: Array) -> dict[str, float]:
        """The objective of each pairing, at the logits of a guide."""
        log_mass, log_q = log_softmax(logits), self.density(logits)
        mass, q = np.exp(log_mass), np.exp(self.log_weight + log_q)
        likelihood, hard = q @ self.log_likelihood, mass @ JOINT
        found = (
            likelihood + q @ (self.log_prior - log_q),
            hard - mass @ log_mass,
            likelihood + mass @ (np.log(WEIGHTS) - log_mass),
            hard - q @ log_q,
            likelihood + q @ (self.log_prior - self.z @ log_mass),
        )
        in_log_space = hard - q @ (log_q + self.log_z.sum(-1))
        return dict(zip((*PAIRINGS, LOG_SPACE), map(float, (*found, in_log_space)), strict=True))

    def best(self, name: str) -> Array:
        """The logits that maximise an objective; the posterior's if it has no maximum."""
        if name == "relaxed / discrete":
            return POSTERIOR

        def loss(free: Array) -> float:
            return -self.objectives(np.append(free, 0.0))[name]

        return np.append(minimize(loss, np.zeros(2), tol=1e-6).x, 0.0)


def estimate(framework: str, name: str, logits: Array, seed: int) -> tuple[float, float]:
    """The framework's own estimate of an objective, and its standard error."""
    ppl = importlib.import_module(framework)
    dist = importlib.import_module(f"{framework}.distributions")
    infer = importlib.import_module(f"{framework}.infer")
    ours = importlib.import_module(f"relaxed_dists.{framework}")
    array = importlib.import_module("torch" if framework == "pyro" else "jax.numpy").asarray
    logits, weights, means = (array(a.astype("float32")) for a in (logits, WEIGHTS, MEANS))
    t = TEMPERATURES[0]
    in_model, in_guide = name.split(" / ")

    def model() -> None:
        with ppl.plate("draws", DRAWS):
            if in_model == "relaxed":
                z = ppl.sample("z", ours.RelaxedOneHotCategorical(t, probs=weights))
            else:
                z = ppl.sample("z", ours.OneHotCategorical(probs=weights))
            ppl.sample("x", dist.Normal(z @ means, 1.0), obs=array(X))

    def guide() -> None:
        with ppl.plate("draws", DRAWS):
            if name == "relaxed / relaxed":
                d = ours.RelaxedOneHotCategorical(t, logits=logits)
            elif in_guide == "relaxed":  # hard values, which the discrete model can score
                d = ours.RelaxedOneHotCategoricalStraightThrough(t, logits=logits)
            else:
                estimator = ours.GumbelSoftmax(t, hard=in_guide == "hard")
                d = ours.OneHotCategorical(logits=logits, estimator=estimator)
            ppl.sample("z", d)

    elbo = getattr(infer, PAIRINGS[name][0])()
    # Without this argument AnnealedSVI refuses a pair of a discrete and a relaxed site.
    allowed = {"allow_mixed": ["z"]}
    if framework == "pyro":
        ppl.set_rng_seed(seed)
        svi = ours.AnnealedSVI(model, guide, ppl.optim.Adam({}), elbo, **allowed)
        losses = [svi.evaluate_loss() for _ in range(REPEATS)]
    else:
        import jax

        svi = ours.AnnealedSVI(model, guide, ppl.optim.Adam(1.0), elbo, **allowed)
        state = svi.init(jax.random.key(seed))
        keys = jax.random.split(jax.random.key(seed), REPEATS)
        losses = jax.lax.map(lambda key: svi.evaluate(state._replace(rng_key=key)), keys)
    found = -np.array([float(loss) for loss in losses]) / DRAWS
    return found.mean(), found.std(ddof=1) / math.sqrt(REPEATS)


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="What each pairing of model and guide optimises.")
    parser.add_argument("--backend", choices=("pyro", "numpyro", "both", "none"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    frameworks = {"both": ["pyro", "numpyro"], "none": []}.get(args.backend, [args.backend])
    warm, console = Simplex(TEMPERATURES[0]), Console(width=140)

    table = Table("model / guide", box=box.SIMPLE_HEAD, title="At the best logits, temperature 0.5")
    for title in ("objective", "discrete bound", *(f"{NAMES[f]}'s estimate" for f in frameworks)):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("what it is")
    for name, (_, what) in PAIRINGS.items():
        logits = warm.best(name)
        values = warm.objectives(logits)
        row = [f"{values[name]:.3f}", f"{values['discrete / hard']:.3f}"]
        for framework in frameworks:
            mean, error = estimate(framework, name, logits, args.seed)
            row.append(f"{mean:.4f} ± {error:.4f}")
        table.add_row(name, *row, what)
    console.print(table)
    console.print(f"Log evidence: discrete {EVIDENCE:.3f}, relaxed {warm.evidence():.3f}")
    # The simplex has the volume 1 / 2!, and each category is the largest in a third of it.
    console.print(f"discrete / relaxed is below {EVIDENCE - math.log(6):.3f}: that less log 3!\n")

    table = Table(box=box.SIMPLE_HEAD, title="At the posterior's logits, at falling temperatures")
    for title in ("temperature", *map(str, TEMPERATURES)):
        table.add_column(title, justify="right" if title[0] == "0" else "left")
    grids = [Simplex(t) for t in TEMPERATURES]
    table.add_row("log evidence, discrete", *[f"{EVIDENCE:.3f}" for _ in grids])
    table.add_row("log evidence, relaxed", *[f"{g.evidence():.3f}" for g in grids])
    columns = [g.objectives(POSTERIOR) for g in grids]
    for name in columns[0]:
        table.add_row(name, *[f"{column[name]:.3f}" for column in columns])
    console.print(table)


if __name__ == "__main__":
    main()
