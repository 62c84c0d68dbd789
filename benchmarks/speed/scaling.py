"""What a training step would cost on 8, 64 and 512 devices, on paper, from measured costs.

    python -m benchmarks.speed.scaling [--markdown]

Two programs in JAX, in float32. "VAE" is the step of a categorical VAE with a fixed batch on each
device: its gradients are reduced over all devices. "softmax" is an ELBO term (a draw, its density,
and the gradient of both) whose 51,200 categories are sharded: it reduces numbers of each row.

Measured are the seconds of a step on one device, which is one thread of a processor, and the
all-reduces in the program that XLA compiles for 8 devices: their number and their bytes. Assumed
are the links, and how many times faster than this thread a device is. A step then costs

    compute + 2 (n - 1) / n bytes / bandwidth + 2 log2(n) latency reduces

which is a ring for the bytes and a tree for the latency, with nothing overlapped.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.tables import show

DEVICES = (8, 64, 512)
BATCH, ROWS, K = 128, 256, 51_200  # rows of the VAE on each device; rows and categories of softmax
SIZES = ((784, 256), (256, 200), (200, 256), (256, 784))  # the VAE's matrices; 20 x 10 categories
REDUCE = re.compile(r"= (.*?) all-reduce(?:-start)?\(")
OTHER = re.compile(r" (?:all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
BYTES = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}


class Link(NamedTuple):
    """An assumed link between devices, and devices that are assumed to be ``faster``."""

    name: str
    bandwidth: float  # bytes a second
    latency: float  # seconds
    faster: float  # times as fast as the thread that was measured


LINKS = [
    Link("10 Gb/s Ethernet, this thread", 1.25e9, 50e-6, 1),
    Link("200 Gb/s InfiniBand, 100 x this thread", 25e9, 5e-6, 100),
]


def vae(devices: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A step of plain gradient descent of a VAE, and its arguments, sharded over the batch."""
    import jax
    import jax.numpy as jnp

    from relaxed_dists.numpyro import RelaxedOneHotCategorical

    rng = np.random.default_rng(0)
    weights = [jnp.asarray(rng.normal(0, 0.05, size), "float32") for size in SIZES]
    x = jnp.asarray(rng.uniform(size=(BATCH * devices, SIZES[0][0])) > 0.5, "float32")

    def loss(weights: list[Any], x: Any, key: Any) -> Any:
        logits = (jnp.tanh(x @ weights[0]) @ weights[1]).reshape(-1, 20, 10)
        q = RelaxedOneHotCategorical(0.5, logits=logits)
        z, sample = q.sample_with_intermediates(key)
        prior = RelaxedOneHotCategorical(0.5, logits=jnp.zeros_like(logits))
        kl = (q.log_prob(z, sample) - prior.log_prob(z, sample)).sum(-1)
        scores = jnp.tanh(z.reshape(-1, 200) @ weights[2]) @ weights[3]
        return (kl + (jnp.logaddexp(scores, 0) - x * scores).sum(-1)).mean()

    def step(weights: list[Any], x: Any, key: Any) -> Any:
        slopes = jax.grad(loss)(weights, x, key)
        return [w - 1e-3 * g for w, g in zip(weights, slopes, strict=True)]

    return step, (weights, placed(x, devices, 0), jax.random.key(0))


def softmax(devices: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """An ELBO term with its gradient, and its arguments, sharded over the categories."""
    import jax
    import jax.numpy as jnp

    from relaxed_dists.numpyro import RelaxedOneHotCategorical

    def term(logits: Any, weights: Any, key: Any) -> Any:
        d = RelaxedOneHotCategorical(0.5, logits=logits)
        z, sample = d.sample_with_intermediates(key)
        return (z * weights).sum() + d.log_prob(z, sample).sum()

    rng = np.random.default_rng(0)
    arrays = (jnp.asarray(rng.normal(size=(ROWS, K)), "float32") for _ in range(2))
    return jax.grad(term), (*(placed(x, devices, 1) for x in arrays), jax.random.key(0))


PROGRAMS = {"VAE": vae, "softmax": softmax}


def placed(x: Any, devices: int, axis: int) -> Any:
    """An array sharded over devices along an axis."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("devices",))
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*[None] * axis, "devices")))


def measure(name: str, devices: int) -> dict[str, float]:
    """With one device the seconds of a step; with several the all-reduces, compiled and not run."""
    import jax

    clock = machine.pin(1) if devices == 1 else time.perf_counter
    step, given = PROGRAMS[name](devices)
    compiled = jax.jit(step).lower(*given).compile()
    if devices > 1:
        text = compiled.as_text()
        if found := OTHER.findall(text):
            raise SystemExit(f"{name} got collectives beside all-reduces: {found}")
        reduced = [
            sum(map(size, re.findall(r"(\w+)\[([\d,]*)\]", x))) for x in REDUCE.findall(text)
        ]
        return {"reduces": len(reduced), "bytes": sum(reduced)}
    times = []
    for _ in range(7):
        start = clock()
        jax.block_until_ready(compiled(*given))
        times.append(clock() - start)
    return {"seconds": statistics.median(times)}


def size(array: tuple[str, str]) -> int:
    """The bytes of an array, from its dtype and shape in a compiled program."""
    dtype, shape = array
    return BYTES[dtype] * math.prod(int(n) for n in shape.split(",") if n)


def ask(name: str, devices: int) -> dict[str, float]:
    """What ``measure`` finds, in a process with that many devices of the processor."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "benchmarks.speed.scaling", "--measure", name, str(devices)]
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return dict(json.loads(subprocess.check_output(command, env=env).splitlines()[-1]))


def rows(name: str, found: dict[str, float], link: Link) -> list[list[str]]:
    """The lines of a program and a link: the parts of a step, their sum, and the largest part."""
    lines = []
    for n in (1, *DEVICES):
        share = n if name == "softmax" else 1  # the categories are shared, the VAE's batch grows
        parts = {
            "compute": found["seconds"] / link.faster / share,
            "bandwidth": 2 * (n - 1) / n * found["bytes"] / link.bandwidth,
            "latency": 2 * math.log2(n) * link.latency * found["reduces"],
        }
        total = sum(parts.values())
        cells = [f"{1e3 * x:,.2f}" for x in (*parts.values(), total)]
        largest = max(parts, key=lambda part: parts[part])
        efficiency = f"{100 * parts['compute'] / total:.0f}"
        lines.append([name, link.name, str(n), *cells, efficiency, largest])
    return lines


def main() -> None:
    """Print what was measured and the costs that follow."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--markdown", action="store_true", help="print tables of Markdown")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], int(options.measure[1]))))
        return
    found = {name: ask(name, 1) | ask(name, 8) for name in PROGRAMS}
    table = [
        [name, f"{1e3 * x['seconds']:.1f}", f"{x['reduces']}", f"{x['bytes']:,}"]
        for name, x in found.items()
    ]
    show("Measured", ["program", "ms", "all-reduces", "bytes"], table, options.markdown)
    header = ["program", "link and device, assumed", "devices"]
    header += ["compute ms", "bandwidth ms", "latency ms", "step ms", "efficiency %", "bound by"]
    lines = [line for name in PROGRAMS for link in LINKS for line in rows(name, found[name], link)]
    show("On paper", header, lines, options.markdown)
    print(f"{machine.processor()}; 1 thread; float32; {machine.versions('jax', 'numpyro')}")


if __name__ == "__main__":
    main()
