"""Time and memory of large problems: a vocabulary of 50,257 categories, and a million categories.

    python -m benchmarks.speed.large [--markdown]

In float32, on one thread. Each call has its own process, so that the process's peak of memory is
the call's. The memory is what a call needs beside its arguments, with its results.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.speed.growth import FRAMEWORKS, MB, peak, reset_peak
from benchmarks.tables import show

CASES = {
    (8, 50_257): ["mean", "variance", "entropy", "kl", "evidence_bounds", "evidence_bounds by one"],
    (1, 1_000_000): ["draw", "log_prob", "mean"],
}


def torch_call(what: str, shape: tuple[int, int]) -> Callable[[], object]:
    """The call in torch."""
    import pyro
    import torch

    from relaxed_dists.pyro import OneHotCategorical, RelaxedOneHotCategorical, evidence_bounds

    torch.set_num_threads(1)
    x, y = (torch.from_numpy(a) for a in logits(shape))
    p = RelaxedOneHotCategorical(torch.tensor(0.5), logits=x)
    q, z = RelaxedOneHotCategorical(torch.tensor(0.7), logits=y), p.sample()
    numbers = torch.linspace(-1, 1, shape[1])

    def model(x: Any, y: Any) -> None:
        with pyro.plate("rows", shape[0]):
            z = pyro.sample("z", OneHotCategorical(logits=y))
            pyro.sample("x", pyro.distributions.Normal(z @ numbers, 1.0), obs=torch.zeros(shape[0]))

    def guide(x: Any, y: Any) -> None:
        with pyro.plate("rows", shape[0]):
            pyro.sample("z", OneHotCategorical(logits=x))

    return calls(p, q, z, torch.distributions.kl_divergence, p.sample).get(what) or (
        lambda: evidence_bounds(model, guide, x, y, **evidence(what))
    )


def jax_call(what: str, shape: tuple[int, int]) -> Callable[[], object]:
    """The call in JAX; compiled in advance, except for evidence_bounds, which compiles itself."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    from relaxed_dists.numpyro import OneHotCategorical, RelaxedOneHotCategorical, evidence_bounds

    x, y = map(jnp.asarray, logits(shape))
    key, numbers = jax.random.key(0), jnp.linspace(-1, 1, shape[1])

    def model(x: Any, y: Any) -> None:
        with numpyro.plate("rows", shape[0]):
            z = numpyro.sample("z", OneHotCategorical(logits=y))
            numpyro.sample("x", dist.Normal(z @ numbers, 1.0), obs=jnp.zeros(shape[0]))

    def guide(x: Any, y: Any) -> None:
        with numpyro.plate("rows", shape[0]):
            numpyro.sample("z", OneHotCategorical(logits=x))

    if what.startswith("evidence_bounds"):
        return lambda: evidence_bounds(key, {}, model, guide, x, y, **evidence(what))

    def call(x: jax.Array, y: jax.Array, z: jax.Array) -> Any:
        p, q = RelaxedOneHotCategorical(0.5, logits=x), RelaxedOneHotCategorical(0.7, logits=y)
        return calls(p, q, z, dist.kl_divergence, lambda: p.sample(key))[what]()

    z = RelaxedOneHotCategorical(0.5, logits=x).sample(key)
    compiled = jax.jit(call).lower(x, y, z).compile()
    return lambda: jax.block_until_ready(compiled(x, y, z))


def calls(p: Any, q: Any, z: Any, kl: Any, draw: Any) -> dict[str, Any]:
    """The call of each name."""
    return {
        "mean": lambda: p.mean,
        "variance": lambda: p.variance,
        "entropy": lambda: p.entropy(),
        "kl": lambda: kl(p, q),
        "draw": draw,
        "log_prob": lambda: p.log_prob(z),
    }


def evidence(what: str) -> dict[str, Any]:
    """The options of evidence_bounds."""
    size = 1 if what.endswith("by one") else None
    return {"num_samples": 40, "chunk_size": size, "progress_bar": False}


def logits(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two distributions, whose largest probabilities are near 0.1."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, shape)
    return x.astype("float32"), (x + rng.normal(0, 0.5, shape)).astype("float32")


def point(framework: str, what: str, shape: tuple[int, int]) -> tuple[float, int]:
    """The seconds of the faster of two calls, and the bytes that they need at most."""
    clock, times = machine.pin(1), []
    make = torch_call if framework == "torch" else jax_call
    make(what, (2, 100))()  # the framework's set-up is not measured
    step = make(what, shape)
    before = reset_peak()
    for _ in range(2):
        start = clock()
        step()
        times.append(clock() - start)
    return min(times), peak() - before


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--markdown", action="store_true", help="print a table of Markdown")
    parser.add_argument("--point", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        framework, what, rows, k = options.point
        print(json.dumps(point(framework, what, (int(rows), int(k)))))
        return
    header, lines = ["rows x categories", "what"], []
    for framework in FRAMEWORKS:
        header += [f"{framework}: s", "MB"]
    for (rows, k), names in CASES.items():
        for what in names:
            lines.append([f"{rows} x {k:,}", what])
            for framework in FRAMEWORKS:
                command = [sys.executable, "-m", "benchmarks.speed.large", "--point"]
                command += [framework, what, str(rows), str(k)]
                seconds, size = json.loads(subprocess.check_output(command))
                lines[-1] += [f"{seconds:.2f}", f"{size / MB:.0f}"]
    show("Large problems", header, lines, options.markdown)
    packages = machine.versions(*(name for pair in FRAMEWORKS.items() for name in pair))
    print(f"{machine.processor()}; 1 thread; float32; {packages}")


if __name__ == "__main__":
    main()
