"""Speed against other libraries: ratios of times that are measured in turn, and their goals.

    python -m benchmarks.speed.bench [--seconds 0.4] [--threads 1 2] [--only torch] [--out bench]
                               [--markdown FILE]

Each framework and number of threads has its own process, and a comparison never crosses processes.
Times are medians over rounds; a round runs every subject once. If there is a GPU, all is run on it
as well. Before timing, a check shows that the subjects compute the same. Tables go to the terminal,
all numbers to bench.json, pictures to bench-1.png and so on. A missed goal is marked with an x.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.speed import bench_report as report
from benchmarks.speed.bench_report import GPU, SHAPES, name
from benchmarks.timing import interleaved, medians, ratio

ROOTS = {"torch": "pyro", "jax": "numpyro"}  # the names of the frameworks' packages
PACKAGES = {
    "torch": ("torch", "pyro-ppl"),
    "jax": ("jax", "numpyro", "tensorflow-probability"),
}


def check(operation: str, outcomes: dict[str, Any]) -> None:
    """Check that all subjects draw the same on average: the rows differ only by their noise.

    Raises:
        AssertionError: If a subject's mean differs from the first subject's by more than 6 standard
            errors plus 5 % of the largest mean, or a single number, a loss, by more than 1 %. The
            5 % are for Pyro's straight-through, whose clamped relaxed sample drops some gradient.
    """
    (_, first), *others = outcomes.items()
    for subject, other in others:
        what = f"{operation}: {subject}"
        if np.ndim(first) == 0:
            np.testing.assert_allclose(other, first, rtol=0.01, err_msg=what)
            continue
        a, b = (np.reshape(x, (-1, np.shape(x)[-1])) for x in (first, other))
        error = 6 * np.sqrt((a.var(0) + b.var(0)) / len(a))
        far = np.abs(a.mean(0) - b.mean(0)) > error + 0.05 * np.abs(a.mean(0)).max()
        assert not far.any(), f"{what} differs in {far.sum()} of {far.size} means"


def measure(framework: str, threads: int, seconds: float) -> list[dict[str, Any]]:
    """Each subject's times in this process, for each operation and shape of a framework."""
    clock = time.perf_counter if threads == GPU else machine.pin(threads)
    from benchmarks.speed import bench_svi

    whole: dict[str, Any]
    if framework == "torch":
        import torch

        from benchmarks.speed import bench_torch as bench

        if threads != GPU:
            torch.set_num_threads(threads)
        elif torch.cuda.is_available():
            torch.set_default_device("cuda")
        else:
            return []
        whole = {"SVI step": bench_svi.torch_steps()}
    else:
        import jax

        from benchmarks.speed import bench_jax as bench  # type: ignore[no-redef]

        if (threads == GPU) != (jax.default_backend() == "gpu"):
            return []
        whole = {"SVI step": bench_svi.jax_steps()}
    found = []

    def add(operation: str, shape: tuple[int, ...], steps: dict[str, Any]) -> None:
        if framework == "torch" and threads == GPU:
            steps = {k: bench.finished(step) for k, step in steps.items()}
        outcomes = {subject: step() for subject, step in steps.items()}
        steps = {k: step for k, step in steps.items() if outcomes[k] is not None}
        if threads == 1 and shape in SHAPES[:2] and operation != "construct":
            check(operation, {k: bench.numbers(outcomes[k]) for k in steps if "uniform" not in k})
        times = interleaved(steps, seconds, clock=clock)
        ratios = {f"{a} / {b}": ratio(times, a, b) for a in steps for b in steps if a != b}
        found.append(
            {
                "framework": framework, "threads": threads, "operation": operation,
                "shape": name(shape), "ms": {k: 1e3 * v for k, v in medians(times).items()},
                "rounds": len(next(iter(times.values()))), "ratios": ratios,
            }
        )  # fmt: skip

    for operation, steps in whole.items():
        add(operation, SHAPES[0], steps)
    for shape in SHAPES:
        for operation, steps in bench.cases(shape).items():
            add(operation, shape, steps)
    if framework == "torch":  # last, since torch.compile switches torch's validation off
        for operation, steps in bench.compiled(SHAPES[0]).items():
            add(operation, SHAPES[0], steps)
    return found


def added_by_import(root: str, rounds: int = 5) -> float:
    """The milliseconds that importing this library adds to the framework's import: a median."""
    code = f"import time, {root}; start = time.perf_counter(); import relaxed_dists.{root}; "
    code += "print(time.perf_counter() - start)"
    # An installed package has its byte code on disk: the first process, not timed, writes it.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    runs = [float(subprocess.check_output(command, env=env)) for _ in range(1 + rounds)]
    return 1e3 * statistics.median(runs[1:])


def in_process(framework: str, threads: int, seconds: float) -> list[dict[str, Any]]:
    """The result of `measure`, run in a new process."""
    command = [sys.executable, "-m", "benchmarks.speed.bench", "--child", "--only", framework]
    command += ["--threads", str(threads), "--seconds", str(seconds)]
    platform = {} if threads == GPU else {"JAX_PLATFORMS": "cpu"}
    output = subprocess.check_output(command, env=os.environ | platform)
    return list(json.loads(output))


def main() -> int:
    """Print the tables, and return the number of missed goals."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=0.4, help="of each comparison, about")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=ROOTS)
    parser.add_argument("--out", default="bench", help="where to put .json and .png")
    parser.add_argument("--markdown", type=Path, help="where to put the goals as Markdown")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    frameworks = (options.only,) if options.only else tuple(ROOTS)
    if options.child:
        json.dump(measure(frameworks[0], options.threads[0], options.seconds), sys.stdout)
        return 0
    packages = machine.versions(*(package for f in frameworks for package in PACKAGES[f]))
    about = f"{machine.processor()}; float32; {packages}."
    print(about)
    added = {ROOTS[f]: added_by_import(ROOTS[f]) for f in frameworks}
    found: list[dict[str, Any]] = []
    for framework in frameworks:
        for threads in options.threads + [GPU] * bool(shutil.which("nvidia-smi")):
            if cases := in_process(framework, threads, options.seconds):
                found += cases
                report.times_table(found, framework, threads)

    def tables(markdown: bool = False) -> int:
        missed = [report.goals_table(found, n, markdown) for n in options.threads]
        return sum(missed) + report.imports_table(added, markdown)

    missed = tables()
    print(f"{missed} goals are missed." if missed else "All goals are met.")
    for threads in options.threads:
        report.draw(found, threads, Path(f"{options.out}-{threads}.png"))
    everything = {"about": about, "cases": found, "import, milliseconds": added}
    Path(f"{options.out}.json").write_text(json.dumps(everything, indent=1))
    if options.markdown:
        with options.markdown.open("w") as file, contextlib.redirect_stdout(file):
            tables(markdown=True)
            print(about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
