"""Bias, variance and mean squared error of the estimators, where the exact gradient is a sum.

    python -m benchmarks.estimators.bias [--draws 10000] [--picture bias.png] [--json bias.json]

Each number is relative: to the exact gradient's norm, or to its square. The gradient of a mean over
n variables of K categories each is exact by enumeration of all K^n values; the estimates are means
over draws, and every bias is given with its standard error.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import softmax

from benchmarks.estimators import bias_losses
from benchmarks.estimators.bias_losses import LOSSES, Loss
from relaxed_dists._distributions.estimator_base import short_repr

Function = Callable[[Any, Any], Any]  # from the array library and values (..., n, K) to numbers


@dataclass(frozen=True)
class Problem:
    """A function of n variables of K categories, at given logits."""

    name: str
    logits: np.ndarray  # (n, K)
    f: Function

    def exact(self) -> np.ndarray:
        """The gradient of the mean by the logits: sum_z p(z) f(z) (z - p), over all values."""
        n, k = self.logits.shape
        p = softmax(self.logits, -1)
        z = np.stack([np.eye(k)[list(at)] for at in product(range(k), repeat=n)])
        mass = (z * p).sum(-1).prod(-1)
        return np.einsum("m,m,mnk->nk", mass, self.f(np, z), z - p)


def problems() -> list[Problem]:
    """One to eight variables; linear, quadratic, a network, and sums of powers."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(1, 10)), rng.normal(size=(10, 10))
    w, v = rng.normal(size=(16, 12)), rng.normal(size=12)
    logits = {nk: rng.normal(size=nk) for nk in ((1, 3), (1, 10), (8, 2))}

    def flat(z: Any) -> Any:
        return z.reshape(*z.shape[:-2], -1)

    def network(xp: Any, z: Any) -> Any:
        # The weights are random, and large enough for the nonlinearity of a trained network.
        return xp.tanh(flat(z) @ like(xp, z, w)) @ like(xp, z, v)

    def power(p: float) -> Function:
        # Liu et al. (2023), section 6.1: the distance of binary variables from 0.45.
        return lambda xp, z: (abs(z[..., 0] - 0.45) ** p).sum(-1) / 8

    def quadratic(xp: Any, z: Any) -> Any:
        return ((flat(z) @ like(xp, z, b)) * flat(z)).sum(-1)

    return [
        Problem("linear, K = 10", logits[1, 10], lambda xp, z: (z * like(xp, z, a)).sum((-1, -2))),
        Problem("quadratic, K = 10", logits[1, 10], quadratic),
        Problem(
            "sines, K = 3", logits[1, 3], lambda xp, z: xp.sin(3 * z[..., 0, 0] + z[..., 0, 1])
        ),
        Problem("network, 8 binary", logits[8, 2], network),
        Problem("power 1.5, 8 binary", logits[8, 2], power(1.5)),
        Problem("power 3, 8 binary", logits[8, 2], power(3.0)),
    ]


def like(xp: Any, z: Any, x: np.ndarray) -> Any:
    """x as an array of z's library."""
    return xp.as_tensor(x, dtype=z.dtype) if xp.__name__ == "torch" else xp.asarray(x, z.dtype)


def torch_gradients(problem: Problem, estimator: Any, draws: int) -> np.ndarray:
    """The gradient estimates of `draws` draws, in torch."""
    if isinstance(estimator, Loss):
        return bias_losses.torch_gradients(problem, estimator, draws)
    import torch

    from relaxed_dists.pyro import OneHotCategorical

    torch.manual_seed(0)
    tiled = np.broadcast_to(problem.logits, (draws, *problem.logits.shape)).copy()
    logits = torch.tensor(tiled, requires_grad=True)
    if estimator is None:  # the score function, REINFORCE
        d = OneHotCategorical(logits=logits)
        z = d.sample()
        loss = (problem.f(torch, z) * d.log_prob(z).sum(-1)).sum()
    else:
        loss = problem.f(
            torch, OneHotCategorical(logits=logits, estimator=estimator).rsample()
        ).sum()
    return torch.autograd.grad(loss, logits)[0].numpy()


def jax_gradients(problem: Problem, estimator: Any, draws: int) -> np.ndarray:
    """The gradient estimates of `draws` draws, in JAX."""
    if isinstance(estimator, Loss):
        return bias_losses.jax_gradients(problem, estimator, draws)
    import jax
    import jax.numpy as jnp

    from relaxed_dists.numpyro import OneHotCategorical

    def loss(logits: Any) -> Any:
        d = OneHotCategorical(logits=logits, estimator=estimator)
        z = d.sample(jax.random.key(0))
        if estimator is None:
            return (problem.f(jnp, z) * d.log_prob(z).sum(-1)).sum()
        return problem.f(jnp, z).sum()

    with jax.enable_x64(True):
        tiled = jnp.asarray(np.broadcast_to(problem.logits, (draws, *problem.logits.shape)))
        return np.asarray(jax.jit(jax.grad(loss))(tiled))


def estimators(names: Any) -> list[Any]:
    """The estimators to compare; None stands for the score function."""
    heats = (0.1, 0.5, 1.0)
    return [
        None,
        *LOSSES,
        names.StraightThrough(),
        *(names.GumbelSoftmax(t) for t in heats),
        *(names.GumbelSoftmax(t, hard=False) for t in heats),
        names.DecoupledGumbelSoftmax(0.1, 1.0),
        *(names.GumbelRao(t, 10) for t in heats),
        *(names.GappedStraightThrough(t) for t in heats),
        *(names.ReinMax(t) for t in (1.0, 1.5, 2.0)),
        *(names.ReinMaxRao(t, 10) for t in (0.3, 0.7)),
    ]


def measure(exact: np.ndarray, g: np.ndarray) -> dict[str, float]:
    """Relative bias with its standard error, variance, and mean squared error."""
    size = np.linalg.norm(exact)
    mean, variance = g.mean(0), g.var(0, ddof=1).sum() / size**2
    squared = (mean - exact) ** 2 - g.var(0, ddof=1) / len(g)  # unbiased
    bias = np.sqrt(max(squared.sum(), 0)) / size
    return {
        "bias": bias,
        "bias_error": np.sqrt(variance / len(g)),
        "variance": variance,
        "mse": bias**2 + variance,
    }


def main() -> None:
    """Print a table for each problem, and draw a picture of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import relaxed_dists.numpyro
    import relaxed_dists.pyro

    backends = {"Pyro": torch_gradients, "NumPyro": jax_gradients}
    modules = {"Pyro": relaxed_dists.pyro, "NumPyro": relaxed_dists.numpyro}
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for problem in problems():
        exact, rows = problem.exact(), found.setdefault(problem.name, {})
        table = Table("estimator", title=f"{problem.name}: relative to the exact gradient")
        for name in backends:
            for column in ("bias", "variance", "mean squared error"):
                table.add_column(f"{name}\n{column}", justify="right")
        for pair in zip(*(estimators(modules[name]) for name in backends), strict=True):
            label = "score function" if pair[0] is None else short_repr(pair[0])
            label = str(pair[0]) if isinstance(pair[0], Loss) else label
            cells = []
            for (name, gradients), estimator in zip(backends.items(), pair, strict=True):
                m = measure(exact, gradients(problem, estimator, options.draws))
                rows.setdefault(label, {})[name] = m
                cells += [f"{m['bias']:.3f} ± {m['bias_error']:.3f}"]
                cells += [f"{m['variance']:.3g}", f"{m['mse']:.3g}"]
            table.add_row(label, *cells)
        Console(width=150).print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if options.picture:
        draw(found, options.picture)


def draw(found: dict[str, Any], path: Path) -> None:
    """Plot bias against variance, in a panel for each problem."""
    from matplotlib.figure import Figure

    figure = Figure((12, 7), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    for panel, (name, rows) in zip(panels.flat, found.items(), strict=True):
        for i, (label, by_backend) in enumerate(rows.items()):
            m = by_backend["Pyro"]
            style = {"color": f"C{i % 10}", "marker": "os^D"[i // 10], "label": label}
            panel.loglog(max(m["variance"], 1e-4), max(m["bias"], 1e-3), ls="", **style)
        panel.set_title(name)
        panel.grid(alpha=0.3)
    figure.supxlabel("variance (below 1e-4 at 1e-4)")
    figure.supylabel("bias (below 1e-3 at 1e-3)")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
