"""Compare all estimators on four problems, in NumPyro: which one to choose.

    make estimators
    make estimators ARGS=--quick
    make estimators ARGS="--problem chain --only ReinMax Leave"

The problems are the digits' VAE of the demo, a mixture of 100 components, a hidden Markov model and
a variable with 50,000 categories. Each way to train gets the step size with the best score on
validation data: of three, and of more while the best is the largest or the least. It is then scored
on test data for each seed. Results are a JSON for each
problem, written after each way; ways that are there are skipped. On Linux each of two processes
takes one core and two problems; times are the processor's, of all ways in turn.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.estimators import report
from benchmarks.estimators.compare import compare, pin

FOLDER = Path(__file__).parent / "results"
# The longest first, so that two processes end together.
PROBLEMS = ("table", "mixture", "digits", "chain")


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, and print the tables."""
    what = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=what)
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=[*PROBLEMS])
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the estimators' names")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of a training, a multiple of 10")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps, one step size")
    parser.add_argument("--table", action="store_true", help="train nothing, print the tables")
    parser.add_argument("--markdown", action="store_true", help="print tables of Markdown")
    parser.add_argument("--results", type=Path, help="the folder of the JSONs")
    options = parser.parse_args(argv)
    if options.steps is not None and (options.steps < 10 or options.steps % 10):
        parser.error(f"--steps got {options.steps}; expected a multiple of 10")
    if options.quick:
        options.seeds = 1
    default = FOLDER.with_name("quick") if options.quick else FOLDER
    options.results = options.results or default
    options.results.mkdir(parents=True, exist_ok=True)
    if not options.table:
        words = sys.argv[1:] if argv is None else argv
        command = shlex.join(["python", "-m", "benchmarks.estimators", *words])
        context, allowed = get_context("spawn"), [0]
        if hasattr(os, "sched_getaffinity"):
            allowed = sorted(os.sched_getaffinity(0))
        count, cores = min(options.processes, len(allowed)), context.Queue()
        for core in allowed[:count]:
            cores.put(core)
        with ProcessPoolExecutor(count, context, pin, (cores,)) as pool:
            run = partial(compare, command=command, options=options)
            list(pool.map(run, [name for name in PROBLEMS if name in options.problem]))
    report.tables(report.results(options.results), options.markdown)


if __name__ == "__main__":
    main()
