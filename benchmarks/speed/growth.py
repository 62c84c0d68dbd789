"""How time and memory grow with elements, with categories and with particles.

    python -m benchmarks.speed.growth [--picture docs/growth.png] [--quick] [--markdown]

The ELBO term, which is a draw, its log density and the gradient of both by the logits, and an SVI
step with more and more particles; float32, one thread, compiled in JAX. Each point has its own
process, so that the process's peak of memory is the point's. The memory is what a call needs beside
its arguments.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine
from benchmarks.tables import show

T, FIXED, DATA = 0.5, 10**6, 1000
SERIES = {
    "elements": [10**i for i in range(3, 9)],
    "categories": [10**i for i in range(1, 6)],
    "particles": [1, 10, 100, 1000],
}
# The name of each axis, and the elements of one unit on it: 0 where their number is fixed.
ALONG = {
    "elements": ("elements (rows of 10)", 1),
    "categories": ("categories (1,000,000 elements)", 0),
    "particles": ("particles (of 10,000 elements)", 10 * DATA),
}
FRAMEWORKS = {"torch": "pyro-ppl", "jax": "numpyro"}
MB = 10**6
LARGEST = 100  # bytes for each element, assumed: points beyond the free memory are left out
Step = Callable[[], object]
Points = dict[tuple[str, str, int], tuple[float, int]]  # framework, series, number: seconds, bytes


def torch_step(shape: tuple[int, ...] | None, particles: int) -> Step:
    """A step of the ELBO term of a shape; if there is no shape, an SVI step."""
    import pyro
    import torch

    from benchmarks.speed.bench_torch import elbo_term, gradient
    from relaxed_dists.pyro import RelaxedOneHotCategorical as Relaxed

    t = torch.tensor(T)
    if shape:
        logits = torch.full(shape, 0.1, requires_grad=True)
        term = elbo_term(lambda x: Relaxed(t, logits=x), torch.full(shape, 0.2))
        return gradient(term, logits)
    means, x = torch.arange(10.0), torch.zeros(DATA)

    def model() -> None:
        with pyro.plate("data", DATA):
            z = pyro.sample("z", Relaxed(t, logits=torch.zeros(10)))
            pyro.sample("x", pyro.distributions.Normal(z @ means, 1.0), obs=x)

    def guide() -> None:
        logits = pyro.param("logits", torch.zeros(DATA, 10))
        with pyro.plate("data", DATA):
            pyro.sample("z", Relaxed(t, logits=logits))

    loss = pyro.infer.Trace_ELBO(particles, max_plate_nesting=1, vectorize_particles=True)
    return pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss).step


def jax_step(shape: tuple[int, ...] | None, particles: int) -> Step:
    """The same step in JAX, compiled in advance, so that the compiler's memory is not measured."""
    import jax
    import jax.numpy as jnp
    import numpyro

    from relaxed_dists.numpyro import RelaxedOneHotCategorical as Relaxed

    def ready(f: Callable[..., object], *arguments: object) -> Step:
        compiled = jax.jit(f).lower(*arguments).compile()
        return lambda: jax.block_until_ready(compiled(*arguments))

    key = jax.random.key(0)
    if shape:

        def term(logits: jax.Array, weights: jax.Array, key: jax.Array) -> jax.Array:
            d = Relaxed(T, logits=logits)
            z, intermediates = d.sample_with_intermediates(key)
            return (z * weights).sum() + d.log_prob(z, intermediates).sum()

        return ready(jax.grad(term), jnp.full(shape, 0.1), jnp.full(shape, 0.2), key)
    means, x = jnp.arange(10.0), jnp.zeros(DATA)

    def model() -> None:
        with numpyro.plate("data", DATA):
            z = numpyro.sample("z", Relaxed(T, logits=jnp.zeros(10)))
            numpyro.sample("x", numpyro.distributions.Normal(z @ means, 1.0), obs=x)

    def guide() -> None:
        logits = numpyro.param("logits", jnp.zeros((DATA, 10)))
        with numpyro.plate("data", DATA):
            numpyro.sample("z", Relaxed(T, logits=logits))

    loss = numpyro.infer.Trace_ELBO(particles)
    svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(1e-3), loss)
    return ready(svi.update, svi.init(key))


def peak() -> int:
    """The peak of this process's memory, in bytes."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found


def reset_peak() -> int:
    """Reset the peak, which imports raised, if the system is Linux; return the peak so far."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def point(framework: str, what: str, number: int) -> tuple[float, int]:
    """The median seconds of a call, and the bytes that it needs at most."""
    clock = machine.pin(1)
    make = torch_step if framework == "torch" else jax_step
    shapes = {"elements": (number // 10, 10), "categories": (FIXED // number, number)}
    step = make(shapes.get(what), number)
    # A small step first, so that the framework's set-up is not measured.
    make((1, 10) if what in shapes else None, 1)()
    before = reset_peak()
    step()
    times: list[float] = []
    while sum(times) < 0.3 or (len(times) < 3 and sum(times) < 5):
        start = clock()
        step()
        times.append(clock() - start)
    return statistics.median(times), peak() - before


def draw(found: Points, path: Path) -> None:
    """Plot time above, memory below; dotted lines are proportional and meet the last point."""
    from matplotlib.figure import Figure

    figure = Figure((9, 5), layout="constrained")
    panels = figure.subplots(2, 3, sharex="col", sharey="row")
    for column, (what, (along, _)) in enumerate(ALONG.items()):
        for row, (unit, least) in enumerate(((1e-3, 0), (MB, 1))):  # less than 1 MB is left out
            panel = panels[row, column]
            for colour, framework in zip(("C0", "C1"), FRAMEWORKS, strict=True):
                mine = {k[2]: v[row] for k, v in found.items() if k[:2] == (framework, what)}
                x = [n for n, value in mine.items() if value > least * unit]
                y = [mine[n] / unit for n in x]
                panel.loglog(x, y, ".-", color=colour, label=framework)
                if x and what != "categories":
                    panel.loglog(x, [y[-1] * n / x[-1] for n in x], ":", color=colour)
            panel.grid(alpha=0.3)
        panels[1, column].set_xlabel(along)
    panels[0, 0].set_ylabel("milliseconds of a call")
    panels[1, 0].set_ylabel("MB beside the arguments")
    panels[0, 0].legend()
    figure.savefig(path, dpi=90)


def cells(of: tuple[float, int] | None, elements: int) -> list[str]:
    """Milliseconds, and nanoseconds and bytes for each element; less than 30 MB is noise."""
    if of is None:
        return ["-"] * 3
    (seconds, size), elements = of, elements or FIXED
    bytes_each = f"{size / elements:.0f}" if size > 30 * MB else ""
    return [f"{1e3 * seconds:,.2f}", f"{1e9 * seconds / elements:,.1f}", bytes_each]


def main() -> None:
    """Print a table for each series, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", type=Path, help="where to save it")
    parser.add_argument("--quick", action="store_true", help="only the three smallest of each")
    parser.add_argument("--markdown", action="store_true", help="print tables of Markdown")
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        framework, what, number = options.point
        print(json.dumps(point(framework, what, int(number))))
        return
    found: Points = {}
    for what, (along, each) in ALONG.items():
        header, rows = [along], []
        for framework in FRAMEWORKS:
            header += [f"{framework}: ms", "ns / element", "bytes / element"]
        for number in tqdm(SERIES[what][: 3 if options.quick else None], what, disable=None):
            rows.append([f"{number:,}"])
            for name in ((framework, what, number) for framework in FRAMEWORKS):
                if number * max(1, each) * LARGEST < machine.free_memory():
                    command = [sys.executable, "-m", "benchmarks.speed.growth", "--point"]
                    found[name] = json.loads(subprocess.check_output([*command, *map(str, name)]))
                rows[-1] += cells(found.get(name), number * each)
        show(f"A call against {what}", header, rows, options.markdown)
    packages = machine.versions(*(name for pair in FRAMEWORKS.items() for name in pair))
    print(f"{machine.processor()}; 1 thread; float32; {packages}")
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
