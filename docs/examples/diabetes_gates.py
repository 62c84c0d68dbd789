"""Which measurements predict the progress of diabetes: Bernoulli gates against the lasso, in Pyro.

Each of ten features of 442 patients has a gate, which switches the feature on or off. The model is
small enough for exact results: the posterior of the gates is a sum over all 1,024 of their values.
Run ``python diabetes_gates.py --help`` for the options.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pyro
import torch
from matplotlib.figure import Figure
from pyro import distributions as dist
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal
from rich.console import Console
from rich.table import Table
from scipy.stats import multivariate_normal
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LassoCV
from torch import Tensor

from relaxed_dists.pyro import AnnealedSVI, AutoRelaxed, Bernoulli
from relaxed_dists.schedules import exponential

NOISE, SLAB, OPEN = 0.7, 0.3, 0.3  # the deviations of y and of a weight, P(gate = 1)


def data() -> tuple[list[str], np.ndarray, np.ndarray]:
    """The names of the features, and features and progress, scaled to mean 0 and deviation 1."""
    loaded = load_diabetes()
    x, y = loaded.data, loaded.target
    return loaded.feature_names, (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


def model(x: Tensor, y: Tensor) -> None:
    """A linear regression in which a closed gate takes a feature out."""
    with pyro.plate("features", x.shape[-1]):
        gate = pyro.sample("gate", Bernoulli(probs=torch.tensor(OPEN)))
        weight = pyro.sample("weight", dist.Normal(0.0, SLAB))
    with pyro.plate("patients", len(y)):
        pyro.sample("y", dist.Normal(x @ (gate * weight), NOISE), obs=y)


def fitted(x: np.ndarray, y: np.ndarray, steps: int) -> np.ndarray:
    """The gates' probabilities in the fitted guide."""
    guide = AutoRelaxed(model, continuous=AutoMultivariateNormal)
    temperature = exponential(1.0, rate=3 / steps, floor=0.2)
    svi = AnnealedSVI(
        model, guide, pyro.optim.Adam({"lr": 0.02}), TraceMeanField_ELBO(), temperature
    )
    tensors = [torch.tensor(a, dtype=torch.float32) for a in (x, y)]
    for _ in range(steps):
        svi.step(*tensors)
    return guide.discrete_posterior()["gate"].probs.numpy()


def exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The posterior of each gate: given the gates y is Gaussian, so the evidence is a sum."""
    gates = np.array(list(product([0, 1], repeat=x.shape[1])))
    # The posterior depends on y only through its projection on the features.
    basis, x = np.linalg.qr(x)
    target = basis.T @ y
    noise = NOISE**2 * np.eye(len(target))
    log_mass = np.array(
        [
            multivariate_normal(cov=noise + SLAB**2 * (x * g) @ x.T).logpdf(target)
            + np.log(np.where(g, OPEN, 1 - OPEN)).sum()
            for g in gates
        ]
    )
    mass = np.exp(log_mass - log_mass.max())
    return mass / mass.sum() @ gates


def draw(names: list[str], columns: dict[str, np.ndarray], path: Path) -> None:
    """Draw the probabilities as bars, and the lasso's coefficients beside them."""
    figure = Figure((9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = np.arange(len(names))
    left.bar(at - 0.2, columns["exact"], 0.4, label="exact posterior")
    left.bar(at + 0.2, columns["gates"], 0.4, label="annealed SVI")
    left.set_title("probability that the gate is open")
    left.set_ylim(0, 1.2)
    left.legend(loc="upper center", ncols=2)
    right.bar(at, abs(columns["lasso"]), 0.6, color="C2")
    right.set_title("lasso: size of the coefficient")
    for axis in (left, right):
        axis.set_xticks(at, names)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Fit the guide, compare with the exact posterior and the lasso, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("diabetes_gates.png"))
    options = parser.parse_args()
    pyro.set_rng_seed(options.seed)
    names, x, y = data()
    columns = {
        "gates": fitted(x, y, options.steps),
        "exact": exact(x, y),
        "lasso": LassoCV(random_state=0).fit(x, y).coef_,
    }
    table = Table(title="Probability of an open gate, and the lasso's coefficient")
    for title in ("feature", "annealed SVI", "exact", "lasso"):
        table.add_column(title, justify="left" if title == "feature" else "right")
    for name, *row in zip(names, *columns.values(), strict=True):
        table.add_row(name, *(f"{number:.3f}" for number in row))
    Console().print(table)
    draw(names, columns, options.out)


if __name__ == "__main__":
    main()
