"""Speed against other libraries: ratios of times that are measured in turn, and their goals.

    python -m benchmarks.speed.bench [--rounds 30] [--only torch] [--markdown FILE]

Each framework has its own process on one thread, and times are of the processor, which other
programs on the machine lengthen little. In a round every subject has a turn of 10 ms or a call; the
ratios are medians over rounds. Ours validates, which is its default; the peers don't. Before
timing, a check shows that the subjects compute the same. A missed goal is marked with an x.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import imports, machine
from benchmarks.speed import bench_report as report
from benchmarks.speed.bench_report import SHAPES, name
from benchmarks.timing import interleaved, medians, ratio

PACKAGES = {
    "torch": ("torch", "pyro-ppl"),
    "jax": ("jax", "numpyro", "tensorflow-probability"),
}


def check(operation: str, outcomes: dict[str, Any]) -> None:
    """Check that all subjects draw the same on average: the rows differ only by their noise.

    Raises:
        AssertionError: If a subject's mean differs from the first subject's by more than 6 standard
            errors plus 5 % of the largest mean. The 5 % are for Pyro's straight-through, whose
            clamped relaxed sample drops some gradient.
    """
    (_, first), *others = outcomes.items()
    for subject, other in others:
        a, b = (np.reshape(x, (-1, np.shape(x)[-1])) for x in (first, other))
        error = 6 * np.sqrt((a.var(0) + b.var(0)) / len(a))
        far = np.abs(a.mean(0) - b.mean(0)) > error + 0.05 * np.abs(a.mean(0)).max()
        assert not far.any(), f"{operation}: {subject} differs in {far.sum()} of {far.size} means"


def measure(framework: str, rounds: int) -> list[dict[str, Any]]:
    """Each subject's times in this process, for each operation and shape of a framework."""
    clock = machine.pin(1)
    if framework == "torch":
        from benchmarks.speed import bench_torch as bench
    else:
        from benchmarks.speed import bench_jax as bench  # type: ignore[no-redef]
    found = []
    for shape, cases in bench.cases():
        for operation, steps in cases.items():
            if shape in SHAPES[1:3] and operation != "SVI step":
                others = ("torch.rand", "free")
                same = {k: bench.numbers(step()) for k, step in steps.items() if k not in others}
                check(operation, same)
            times = interleaved(steps, seconds=0, least=rounds, clock=clock, turn=0.01)
            ratios = {peer: ratio(times, "ours", peer) for peer in steps if peer != "ours"}
            ms = {k: 1e3 * seconds for k, seconds in medians(times).items()}
            found.append({"key": (framework, operation, name(shape)), "ms": ms, "ratios": ratios})
    return found


def in_process(framework: str, rounds: int) -> report.Found:
    """The result of `measure`, run in a new process."""
    command = [sys.executable, "-m", "benchmarks.speed.bench", "--child", "--only", framework]
    threads = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    output = subprocess.check_output([*command, f"--rounds={rounds}"], env=os.environ | threads)
    return {tuple(case["key"]): case for case in json.loads(output)}


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=30, help="of each comparison")
    parser.add_argument("--only", choices=PACKAGES)
    parser.add_argument("--markdown", type=Path, help="where to put the tables as Markdown")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    frameworks = (options.only,) if options.only else tuple(PACKAGES)
    if options.child:
        json.dump(measure(options.only, options.rounds), sys.stdout)
        return 0
    packages = machine.versions(*(package for f in frameworks for package in PACKAGES[f]))
    about = f"{machine.processor()}; one thread, float32; {packages}."
    print(about)
    found: report.Found = {}
    for framework in frameworks:
        found |= in_process(framework, options.rounds)
    imported = imports.measure(options.rounds // 2)
    report.milliseconds(found)
    missed = report.ratios(found) + imports.table(imported)
    print(f"{missed} goals are missed." if missed else "All goals are met.")
    if options.markdown:
        with options.markdown.open("w") as file, contextlib.redirect_stdout(file):
            print(about + "\n")
            for goals in (False, True):
                report.ratios(found, markdown=True, goals=goals)
                imports.table(imported, markdown=True, goals=goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
