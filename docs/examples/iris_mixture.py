"""A Gaussian mixture of the petals of 150 irises, in NumPyro, without their species.

Each flower has a one-hot component. The mixture is small enough for exact results: the evidence,
and the components' posterior, are sums over three components for each flower.
Run ``python iris_mixture.py --help`` for the options.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from jax import Array, random
from matplotlib.figure import Figure
from numpyro import distributions as dist
from numpyro.infer import TraceMeanField_ELBO
from rich.console import Console
from scipy.special import logsumexp, softmax
from scipy.stats import norm
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from relaxed_dists.numpyro import (
    AnnealedSVI,
    AutoRelaxed,
    GumbelSoftmax,
    OneHotCategorical,
    evidence_bounds,
)
from relaxed_dists.schedules import exponential

K = 3


def data() -> tuple[np.ndarray, np.ndarray]:
    """Length and width of the petals in cm, and the species, which the model does not see."""
    loaded = load_iris()
    return loaded.data[:, 2:], loaded.target


def model(x: Array) -> None:
    """A mixture of three components with independent normal length and width, to be fitted."""
    start = jnp.quantile(x, jnp.array([0.2, 0.5, 0.8]), axis=0)
    weights = numpyro.param("weights", jnp.full(K, 1 / K), constraint=dist.constraints.simplex)
    means = numpyro.param("means", start)
    scales = numpyro.param("scales", jnp.ones((K, 2)), constraint=dist.constraints.positive)
    with numpyro.plate("flowers", len(x)):
        z = numpyro.sample("z", OneHotCategorical(probs=weights))
        numpyro.sample("x", dist.Normal(z @ means, z @ scales).to_event(1), obs=x)


def exact(x: np.ndarray, params: dict[str, Any]) -> tuple[float, np.ndarray]:
    """The evidence at the fitted parameters, and the posterior of each flower's component."""
    weights, means, scales = (np.asarray(params[k]) for k in ("weights", "means", "scales"))
    joint = np.log(weights) + norm(means, scales).logpdf(x[:, None]).sum(-1)
    return logsumexp(joint, -1).sum(), softmax(joint, -1)


def draw(x: np.ndarray, posterior: np.ndarray, params: dict[str, Any], path: Path) -> None:
    """Draw the flowers coloured by q(z), and an ellipse of two deviations for each component."""
    figure = Figure((6, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.scatter(*x.T, c=posterior, s=18)
    angle = np.linspace(0, 2 * np.pi, 100)
    for mean, scale in zip(np.asarray(params["means"]), np.asarray(params["scales"]), strict=True):
        axis.plot(
            mean[0] + 2 * scale[0] * np.cos(angle), mean[1] + 2 * scale[1] * np.sin(angle), "k"
        )
    axis.set(xlabel="petal length, cm", ylabel="petal width, cm", title="q(z) as colour")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Fit, compare with the exact numbers, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("iris_mixture.png"))
    options = parser.parse_args()
    x, species = data()
    # Soft samples: with hard ones, the likelihood at a corner depends little on other components,
    # and the training often ends with all flowers in a single component.
    guide = AutoRelaxed(model, lambda temperature: GumbelSoftmax(temperature, hard=False))
    temperature = exponential(1.0, rate=3 / options.steps, floor=0.2)
    optim = numpyro.optim.optax_to_numpyro(optax.adam(0.05))
    svi = AnnealedSVI(model, guide, optim, TraceMeanField_ELBO(), temperature)
    key = random.key(options.seed)
    result = svi.run(key, options.steps, jnp.asarray(x), progress_bar=False)
    params = result.params
    bounds = evidence_bounds(
        key, params, model, guide, jnp.asarray(x), num_samples=1000, progress_bar=False,
        temperature=0.2,
    )  # fmt: skip
    evidence, posterior = exact(x, params)
    probs = np.asarray(guide.discrete_posterior(params)["z"].probs)
    score = adjusted_rand_score(species, probs.argmax(-1))
    print_ = Console().print
    print_(f"log evidence at the fitted parameters   {evidence:8.2f}")
    print_(f"importance-weighted bound               {bounds.importance_weighted:8.2f}")
    print_(f"evidence lower bound                    {bounds.elbo:8.2f}")
    print_(f"largest |q(z) - posterior|              {abs(probs - posterior).max():8.3f}")
    print_(f"agreement with the species (Rand)       {score:8.2f}")
    draw(x, probs, jax.device_get(params), options.out)


if __name__ == "__main__":
    main()
