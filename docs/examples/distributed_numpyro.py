"""A mixture, fitted by NumPyro's SVI over all devices of one process or of several.

python docs/examples/distributed_numpyro.py --processes 2

This starts two processes on this machine. With --process and --coordinator, it is one of several
that something else starts, on other machines too. Rows are sharded over the devices, and each has
the parameters. With --folder it saves checkpoints there, and goes on from the newest one, in any
number of processes. It ends in a row of the table of `make distributed`.
"""

import argparse
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpyro.distributions import Normal
from numpyro.infer import TraceMeanField_ELBO

from distributed_table import row, size
from relaxed_dists.numpyro import AnnealedSVI, GumbelSoftmax, OneHotCategorical, evidence_bounds
from relaxed_dists.schedules import exponential

ROWS, BATCH = 1200, 120  # of all devices together
COLLECTIVE = (
    r"= (.*?) (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
    r"(?:-start)?\("  # a GPU's collectives start and end
)


def dense(name: str, x: jax.Array, width: int) -> jax.Array:
    """A linear layer."""
    weight = partial(jax.random.normal, shape=(x.shape[-1], width))
    bias = numpyro.param(f"{name}.bias", jnp.zeros(width))
    return x @ numpyro.param(f"{name}.weight", weight) + bias


def model(x: jax.Array) -> None:
    """Each row is near one of three means."""
    means = numpyro.param("means", jnp.array([-1.0, 0.0, 1.0]))
    with numpyro.plate("rows", ROWS, subsample_size=len(x)):  # x is a batch
        z = numpyro.sample("z", OneHotCategorical(probs=jnp.ones(3)))
        numpyro.sample("x", Normal(z @ means, 0.5), obs=x)


def guide(x: jax.Array, temperature: Any) -> None:
    """A network has the logits of each row's mean."""
    logits = dense("second", jnp.tanh(dense("first", x[:, None], 16)), 3)
    with numpyro.plate("rows", ROWS, subsample_size=len(x)):
        estimator = GumbelSoftmax(temperature, hard=False)
        numpyro.sample("z", OneHotCategorical(logits=logits, estimator=estimator))


def make() -> AnnealedSVI:
    """The model and its guide at an annealed temperature."""
    loss, schedule = TraceMeanField_ELBO(), exponential(1.0, 2e-3, floor=0.3)
    return AnnealedSVI(model, guide, numpyro.optim.Adam(0.01), loss, temperature=schedule)


def save(svi: AnnealedSVI, state: Any, folder: Path) -> None:
    """Write a checkpoint, which is the same in all processes."""
    if jax.process_index() == 0:
        svi.save(folder / f"{int(svi.steps(state))}.npz", state)


def load(svi: AnnealedSVI, state: Any, folder: Path) -> Any:
    """Go on from the newest checkpoint, if there is one, in all processes."""
    steps = [int(path.stem) for path in folder.glob("*.npz")]
    return svi.load(folder / f"{max(steps)}.npz", state) if steps else state


def spread(parameters: list[jax.Array]) -> float:
    """The largest difference between the parameters of two devices."""
    copies = zip(*[[s.data.ravel() for s in x.addressable_shards] for x in parameters], strict=True)
    here = np.stack([np.concatenate(jax.device_get(copy)) for copy in copies])
    return float(np.ptp(process_allgather(here).reshape(-1, here.shape[-1]), axis=0).max())


def sent(program: jax.stages.Compiled) -> str:
    """How often devices send each other something in a compiled program, and how much."""
    messages = re.findall(COLLECTIVE, program.as_text())
    arrays = re.findall(r"[a-z](\d+)\[([\d,]*)\]", " ".join(messages))
    sizes = [int(bits) // 8 * math.prod(map(int, re.findall(r"\d+", x))) for bits, x in arrays]
    return f"{len(messages)} of {size(sum(sizes))}" if messages else "0"


def train(steps: int, folder: Path | None = None, every: int = 100) -> Any:
    """Train over all devices of all processes, print a row of a table, return the parameters."""
    process, processes = jax.process_index(), jax.process_count()
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    by_rows, everywhere = (NamedSharding(mesh, PartitionSpec(*x)) for x in (("rows",), ()))
    rng = np.random.default_rng(0)
    rows = np.repeat([-3.0, 0.0, 3.0], ROWS // 3) + 0.5 * rng.normal(size=ROWS)

    def batch(step: int) -> jax.Array:
        """The batch of a step, of which each process passes the rows of its own devices."""
        chosen = np.random.default_rng(step).choice(rows, BATCH, replace=False)
        own = np.split(chosen, processes)[process]
        return jax.make_array_from_process_local_data(by_rows, own)

    svi = make()
    state = jax.jit(svi.init, out_shardings=everywhere)(jax.random.key(0), batch(0))
    if folder:
        folder.mkdir(exist_ok=True)
        state = load(svi, state, folder)
    update = jax.jit(svi.update, out_shardings=everywhere).lower(state, batch(0)).compile()

    start, first = time.perf_counter(), int(svi.steps(state))
    for step in range(first, steps):
        state, _ = update(state, batch(step))
        if folder and (step + 1) % every == 0:
            save(svi, state, folder)
    jax.block_until_ready(state)
    rate = (steps - first) / (time.perf_counter() - start)

    parameters = svi.get_params(state)
    apart = spread(jax.tree.leaves(parameters))
    how = {"temperature": 0.3, "num_samples": 20, "progress_bar": False}
    everyone = jax.make_array_from_process_local_data(by_rows, np.split(rows, processes)[process])
    given = jax.random.key(0), parameters, model, guide, everyone
    loss = -evidence_bounds(*given, **how).elbo / ROWS  # of the discrete model
    used = update.memory_analysis()  # of each device
    memory = used.argument_size_in_bytes + used.temp_size_in_bytes + used.output_size_in_bytes
    if process == 0:
        own = jax.device_count(), float(loss), apart, sent(update), size(memory)
        row("distributed_numpyro", processes, *own, rate)
    return jax.device_get(parameters)


def start(program: list[str], processes: int) -> None:
    """Start a program in several processes, and end all of them once one has failed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, *program, "--coordinator", address, "--process"]
    running = [subprocess.Popen([*command, str(i)]) for i in range(processes)]
    codes: list[int | None] = [None] * processes
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("The processes were ended."))
    try:
        while None in codes and not any(codes):
            time.sleep(0.1)
            codes = [process.poll() for process in running]
        if any(codes):
            number, code = next((i, code) for i, code in enumerate(codes) if code)
            time.sleep(1)  # until the others have told what they saw
            sys.exit(f"Process {number} ended with exit code {code}, so all were ended.")
    finally:
        for process in running:
            process.kill()  # JAX catches SIGTERM, and waits for the others for a minute
            process.wait()
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="save checkpoints, and go on from the newest")
    parser.add_argument("--every", type=int, default=100, help="steps between two checkpoints")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1, help="devices that a CPU is split into")
    parser.add_argument("--process", type=int, help="the number of this process")
    parser.add_argument("--coordinator", help="the address of process 0, as HOST:PORT")
    given = parser.parse_args()
    if given.processes > 1 and given.devices > 1:
        # A CPU's devices share as many threads as there are cores. With JAX 0.10.2 each step that
        # is dispatched ahead holds some while it waits for others, until all wait for ever.
        parser.error("got --processes and --devices; expected one of them")
    if given.processes > 1 and given.process is None:
        start(sys.argv, given.processes)
    else:
        flags = os.environ.get("XLA_FLAGS", "")
        count = f"--xla_force_host_platform_device_count={given.devices}"
        os.environ["XLA_FLAGS"] = f"{flags} {count}"
        jax.config.update("jax_enable_x64", True)  # so that rounding stays invisible
        if given.processes > 1:
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
            jax.distributed.initialize(given.coordinator, given.processes, given.process)
        train(given.steps, given.folder, given.every)
