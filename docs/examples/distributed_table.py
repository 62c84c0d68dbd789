"""Runs the examples of training in several processes, and prints a table of them.

python docs/examples/distributed_table.py --steps 200

Each example ends in a row. This module also has what the rows are made of.
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
    for command in commands:
        run = [sys.executable, *command, *arguments]
        done = subprocess.run(run, env=env, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.returncode)
        # Gloo says in lines of its own that processes have found each other.
        print(*re.findall(r"^\|.*\n", done.stdout, re.MULTILINE), sep="", end="", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
