"""Reproduce Table 1 of Jang, Gu and Poole (2017), in NumPyro and in Pyro.

With `--paper maddison` it is a part of Table 1 of Maddison, Mnih and Teh (2017).

    make table1 ARGS=--quick
    make table1 ARGS="--framework numpyro --row sbn-bernoulli --seed 0 1 2"

Each run is trained by AnnealedSVI, and its discrete model is scored on the test images by
evidence_bounds, with 1,000 samples. A run writes a JSON; a run whose JSON exists is skipped, and a
run that was cut goes on from its checkpoint. So a long run can be split over processes, by any of
the options. --choose trains a third of the steps at each step size of --rate, and scores the
validation images alone; other runs then take the step size with the best score, in the folder of
--results or else in the repository's own.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.table1 import report
from benchmarks.table1.runs import (
    BOUNDS,
    COLUMNS,
    EPOCH,
    ESTIMATORS,
    FRAMEWORKS,
    JANG,
    MADDISON,
    ROWS,
    SAMPLES,
    Run,
    default_rate,
)

FOLDER = Path(__file__).parent / "results"
RATES = (1e-3, 3e-3, 1e-2)
PAPERS = {"jang": (JANG, COLUMNS), "maddison": (MADDISON, BOUNDS)}  # rows, and columns to train


def planned(options: argparse.Namespace) -> list[Run]:
    """The runs that the options ask for, in their order."""
    folders = dict.fromkeys((options.results, FOLDER))  # each once
    found, runs = [report.results(folder) for folder in folders], []
    part = 3 if options.quick or options.choose else 1
    cases = product(options.framework, options.seed, options.estimator, options.row)
    for framework, seed, estimator, row in cases:
        steps = options.steps or ROWS[row].steps // part
        best = [rate for results in found if (rate := report.chosen(results, row, estimator))]
        best.append(default_rate(row, estimator))
        for rate in options.rate or (RATES if options.choose else best[:1]):
            runs.append(Run(framework, row, estimator, steps, rate, seed))
    return runs


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, then print the table and draw the curves."""
    what = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=what)
    parser.add_argument("--paper", choices=PAPERS, default="jang")
    parser.add_argument("--framework", nargs="+", choices=FRAMEWORKS, default=[*FRAMEWORKS])
    parser.add_argument("--row", nargs="+", choices=ROWS)
    both = [*ESTIMATORS, *BOUNDS]
    parser.add_argument("--estimator", nargs="+", choices=both, help="or samples of the loss")
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help=f"of a run, a multiple of {EPOCH}")
    parser.add_argument("--rate", nargs="+", type=float, help="step sizes of Adam")
    parser.add_argument("--samples", type=int, help="of the test bound; 1,000, or 100 with --quick")
    parser.add_argument(
        "--quick", action="store_true", help="NumPyro, a seed, a third of the steps"
    )
    parser.add_argument("--choose", action="store_true", help="try step sizes, without a test")
    parser.add_argument(
        "--keep", action="store_true", help="train nothing, keep NumPyro's parameters"
    )
    parser.add_argument("--time", action="store_true", help="train nothing, time the steps")
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    parser.add_argument("--list", action="store_true", help="train nothing, list the runs")
    parser.add_argument("--markdown", action="store_true", help="print tables of Markdown")
    parser.add_argument(
        "--results", type=Path, help="the folder of the JSONs; --quick has one of its own"
    )
    parser.add_argument("--picture", type=Path, help="where to draw the curves")
    options = parser.parse_args(argv)
    rows, columns = PAPERS[options.paper]
    options.row, options.estimator = options.row or [*rows], options.estimator or [*columns]
    for row, estimator in product(options.row, options.estimator):
        if (row in MADDISON) != (estimator in BOUNDS):
            parser.error(f"--row {row} has no --estimator {estimator}; see --paper")
    if options.steps is not None and (options.steps < EPOCH or options.steps % EPOCH):
        parser.error(f"--steps got {options.steps}; expected a multiple of {EPOCH}")
    if options.quick or options.choose:
        options.framework, options.seed = ["numpyro"], options.seed[:1]
    if options.keep:
        options.framework = ["numpyro"]
    default = FOLDER.with_name("quick") if options.quick else FOLDER
    options.results = options.results or default
    if options.samples is None:
        options.samples = 100 if options.quick else SAMPLES
    if options.choose:
        options.samples = 0
    runs = planned(options)
    missing = [run for run in runs if not (options.results / f"{run.name}.json").exists()]
    if options.list:
        print(*(run.name for run in missing), sep="\n")
        return
    if options.keep or options.time or (missing and not options.table):
        from benchmarks import machine
        from benchmarks.table1 import data, train

        machine.pin(1)
        images = data.load()
        options.results.mkdir(parents=True, exist_ok=True)
        if options.keep:
            for run in runs:
                train.keep(run, images, options.results)
            return
        if options.time:
            report.times({run: train.timed(run, images) for run in runs}, options.markdown)
            return
        for number, run in enumerate(missing, 1):
            print(f"Run {number} of {len(missing)}: {run.name}", flush=True)
            train.train(run, images, options.results, options.samples)
    found = report.results(options.results)
    report.rates(found, options.markdown)
    report.table(found, options.markdown)
    report.relaxed(found, options.markdown)
    if options.picture:
        report.picture(found, options.picture)


if __name__ == "__main__":
    main()
