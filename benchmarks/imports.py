"""The CPU time that each facade's import adds to that of its framework.

    python -m benchmarks.imports [--rounds 15]

A round imports each facade once, in a new process that has imported the framework before; the
table has medians over rounds, and their least. Python's bytecode is cached, as it is for an
installed package. The exit status is the number of missed goals. ``python -X importtime`` says
where the time goes.
"""

import argparse
import os
import statistics
import subprocess
import sys

from benchmarks.tables import show

# Each facade, with what is imported before it, and the goal in milliseconds.
FACADES = {
    "torch": ("torch", 30.0),
    "jax": ("jax, jax.numpy", 30.0),
    "pyro": ("pyro", 40.0),
}
CODE = """
import {before}
from time import process_time
start = process_time()
import relaxed_dists.{facade}
print(process_time() - start)
"""


def added(facade: str) -> float:
    """The milliseconds of one import, with all that it imports in turn."""
    code = CODE.format(facade=facade, before=FACADES[facade][0])
    command = [sys.executable, "-c", code]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return 1000 * float(subprocess.run(command, capture_output=True, check=True, env=env).stdout)


def measure(rounds: int) -> dict[str, list[float]]:
    """The milliseconds of each facade's import in each round."""
    for facade in FACADES:
        added(facade)  # caches the bytecode
    times: dict[str, list[float]] = {facade: [] for facade in FACADES}
    for _ in range(rounds):
        for facade in FACADES:
            times[facade].append(added(facade))
    return times


def table(times: dict[str, list[float]], markdown: bool = False, goals: bool = True) -> int:
    """Print the medians, with their goals or without; return the number of missed goals."""
    rows, missed = [], 0
    for facade, (before, goal) in FACADES.items():
        median = statistics.median(times[facade])
        missed += median > goal
        row = [f"relaxed_dists.{facade}", before, f"{median:.0f}", f"{min(times[facade]):.0f}"]
        rows.append([*row, f"{goal:.0f}", "no" if median > goal else "yes"][: 6 if goals else 4])
    header = ["import", "after that of", "median ms", "least", "goal", "met"]
    show("What an import adds", header[: len(rows[0])], rows, markdown)
    return missed


def main() -> int:
    """Print the table; return the number of missed goals."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15)
    return table(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    sys.exit(main())
