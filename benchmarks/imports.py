"""The CPU time that each facade's import adds to that of its framework.

A round imports each facade once, in a new process that has imported the framework before; the
table has medians over rounds, and their least. Python's bytecode is cached, as it is for an
installed package. Run this as ``python -m benchmarks.imports``; the exit status is the number of
missed goals. ``python -X importtime`` says where the time goes.
"""

import argparse
import statistics
import subprocess
import sys

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
    return 1000 * float(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> int:
    """Print the table; return the number of missed goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    for facade in FACADES:
        added(facade)  # caches the bytecode
    times: dict[str, list[float]] = {facade: [] for facade in FACADES}
    for _ in range(rounds):
        for facade in FACADES:
            times[facade].append(added(facade))
    print(f"{'import':<22}{'to that of':<18}{'median':>9}{'least':>9}{'goal':>9}")
    missed = 0
    for facade, (before, goal) in FACADES.items():
        median = statistics.median(times[facade])
        missed += median > goal
        print(
            f"{'relaxed_dists.' + facade:<22}{before:<18}{median:>6.1f} ms"
            f"{min(times[facade]):>6.1f} ms{goal:>6.0f} ms{'  missed' * (median > goal)}"
        )
    return missed


if __name__ == "__main__":
    sys.exit(main())
