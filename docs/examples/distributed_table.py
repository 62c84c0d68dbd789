"""Runs the examples of training in several processes, and prints a table of them.

python docs/examples/distributed_table.py --steps 200

Each example ends in a row. The script fails if numbers differ that should be the same. This module
also has what the rows are made of.
"""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent

HEAD = (
    "example",
    "processes",
    "devices",
    "loss",
    "differ by",
    "collectives a step",
    "memory a device",
    "steps a second",
)


def row(
    example: str,
    processes: int,
    devices: int,
    loss: float,
    apart: float,
    collectives: str,
    memory: str,
    rate: float,
) -> None:
    """Print a row."""
    cells = [example, processes, devices, f"{loss:.5f}", f"{apart:.1e}", collectives, memory]
    print("|", *(f"{cell} |" for cell in [*cells, f"{rate:.0f}"]), flush=True)


def size(number: float) -> str:
    """A number of bytes in words."""
    return f"{number / 1e6:.0f} MB" if number > 1e6 else f"{number / 1e3:.1f} kB"


def peak() -> str:
    """The most memory that this process has had."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return size(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def sent_in_torch(step: Callable[[], object]) -> str:
    """How often the processes send each other something by gloo in a step, and how much."""
    import torch

    with torch.profiler.profile(record_shapes=True) as seen:
        step()
    found = [event.input_shapes for event in seen.events() if event.name.startswith("gloo:")]
    numbers = sum(math.prod(shape) for shapes in found for shape in shapes)
    return f"{len(found)} of {size(numbers * torch.get_default_dtype().itemsize)}"


def wrong(rows: list[list[str]]) -> str:
    """What differs in the rows of a table and should be the same; empty if nothing does."""
    losses: dict[str, float] = {}
    for example, processes, devices, loss, apart, *_ in rows:
        where = f"{example} in {processes} processes on {devices} devices"
        if not float(apart) <= 1e-6:
            return f"{where}: the parameters differ by {apart}; expected the same on all devices."
        first = losses.setdefault(example, float(loss))
        # The ranks of distributed_pyro draw noise of their own.
        limit = math.inf if example == "distributed_pyro" else 1e-4
        if not abs(float(loss) - first) <= limit:
            return f"{where}: the loss is {loss}; expected {first:.5f}, as on one device."
    return ""


def main(arguments: list[str]) -> None:
    """Run each example with a few numbers of processes and devices, and print its row."""
    print("|", *(f"{cell} |" for cell in HEAD))
    print("|", *(f"{'---' if cell == 'example' else '---:'} |" for cell in HEAD), flush=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    commands = [
        [*torchrun, str(ranks), str(HERE / f"distributed_{example}.py")]
        for example in ("torch", "pyro")
        for ranks in (1, 2)
    ]
    for how in ([], ["--devices", "2"], ["--processes", "2"]):
        commands.append([str(HERE / "distributed_numpyro.py"), *how])
    # torch's profiler tells when it starts and stops, unless told not to.
    env = {**os.environ, "KINETO_LOG_LEVEL": "6"}
    rows = []
    for command in commands:
        run = [sys.executable, *command, *arguments]
        done = subprocess.run(run, env=env, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.returncode)
        # Gloo says, perhaps in the same line, that processes have found each other.
        found = re.findall(r"\| distributed_.*\|", done.stdout)
        print(*found, sep="\n", flush=True)
        if len(found) != 1:
            sys.exit(f"{' '.join(run)} printed {len(found)} rows; expected 1.")
        rows.append([cell.strip() for cell in found[0].strip("|").split("|")])
    sys.exit(wrong(rows) or None)


if __name__ == "__main__":
    main(sys.argv[1:])
