"""The table and the picture, from the JSONs of the runs alone."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.table1.runs import (
    BOUNDS,
    ESTIMATORS,
    FRAMEWORKS,
    JANG,
    MADDISON,
    ROWS,
    Run,
    paper,
)
from benchmarks.tables import show

Result = dict[str, Any]


def results(folder: Path) -> list[Result]:
    """The finished runs in a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def label(estimator: str) -> str:
    """The name of an estimator, or the number of samples of a loss."""
    return ESTIMATORS.get(estimator) or f"m = {BOUNDS[estimator]}"


def mean(found: Sequence[Result]) -> tuple[float, float]:
    """The mean over seeds and its standard error, by the choice of images and by the seeds."""
    bounds, errors = np.array([[r["test"]["bound"], r["test"]["error"]] for r in found]).T
    error = errors.mean()  # all seeds have the same images
    if len(found) > 1:
        error = np.hypot(error, stats.sem(bounds))
    return float(bounds.mean()), float(error)


def cell(found: Sequence[Result]) -> str:
    """The mean, its standard error and the number of seeds."""
    seeds = "one seed" if len(found) == 1 else f"{len(found)} seeds"
    return "{:.1f} ± {:.1f}, {}".format(*mean(found), seeds)


def table(found: Iterable[Result], markdown: bool) -> None:
    """Print a row for each model and estimator: the number of Jang et al. beside ours."""
    cells: dict[tuple[Any, ...], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in found:
        if "test" in result:
            settings = result["rate"], result["steps"], result["test"]["samples"]
            key = (result["row"], result["estimator"], *settings)
            cells[key][result["framework"]].append(result)
    rows = []
    for row, model in JANG.items():
        for estimator, name in ESTIMATORS.items():
            number = paper(row, estimator)
            given = ["" if number is None else f"{number:.1f}", f"{model.best:.1f}"]
            for key in sorted(key for key in cells if key[:2] == (row, estimator)):
                ours = [cell(cells[key][f]) if f in cells[key] else "" for f in FRAMEWORKS]
                rate, *numbers = key[2:]
                settings = [f"{rate:g}", *(f"{number:,}" for number in numbers)]
                rows.append([f"{model.task.upper()} {model.about}", name, *given, *ours, *settings])
    header = ["model", "estimator", "paper", "paper's best", *FRAMEWORKS.values(), "step size"]
    title = "Nats an image, of the discrete model on the test images; lower is better"
    show(title, [*header, "steps", "samples"], rows, markdown)


def relaxed(found: Iterable[Result], markdown: bool) -> None:
    """Print a row for each relaxed model and number of samples, if there are any.

    The numbers are means over seeds.
    """
    cells: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for r in found:
        if "bounds" in r:
            place, m = [*MADDISON].index(r["row"]), r["bounds"]["samples"]
            settings = r["steps"], r["rate"], r["test"]["samples"]
            cells[(place, m, r["framework"], *settings)].append(r)
    rows = []
    for (_, m, _, steps, rate, samples), runs in sorted(cells.items()):
        row, framework = runs[0]["row"], runs[0]["framework"]
        model = MADDISON[row]
        rows.append(
            [
                *(model.about, ", ".join(f"{t:.2f}" for t in model.temperatures or ())),
                *(str(m), FRAMEWORKS[framework]),
                *(f"{np.mean([r['bounds'][kind] for r in runs]):.1f}" for kind in _KINDS),
                *(cell(runs), f"{rate:g}", f"{steps:,}", f"{samples:,}"),
            ]
        )
    if rows:
        title = "Nats an image: the relaxed model's bound, and its discrete model's"
        header = ["model", "temperatures", "m", "framework", "relaxed, m samples"]
        header += ["discrete, m samples", "discrete", "step size", "steps", "samples"]
        show(title, header, rows, markdown)


_KINDS = ("relaxed", "discrete")


def rates(found: Iterable[Result], markdown: bool) -> None:
    """Print the validation bound of each step size that was tried."""
    rows = [
        [
            *(r["row"], label(r["estimator"]), FRAMEWORKS[r["framework"]]),
            *(f"{r['steps']:,}", f"{r['rate']:g}", str(r["seed"])),
            *(f"{r['validation']['bound']:.2f}", f"{r['milliseconds_a_step']:.2f}"),
        ]
        for r in found
    ]
    header = ["model", "estimator", "framework", "steps", "step size", "seed", "validation"]
    show("Validation bound, 100 samples", [*header, "ms a step"], rows, markdown)


def times(measured: Mapping[Run, float], markdown: bool) -> None:
    """Print the milliseconds of a step of each run, and the minutes of the training."""
    rows = [
        [
            *(run.row, label(run.estimator), FRAMEWORKS[run.framework]),
            *(f"{ms:.2f}", f"{run.steps:,}", f"{ms * run.steps / 60_000:.1f}"),
        ]
        for run, ms in measured.items()
    ]
    hours = sum(ms * run.steps for run, ms in measured.items()) / 3.6e6
    header = ["model", "estimator", "framework", "ms a step", "steps", "minutes"]
    show(f"The processor's time, {hours:.1f} hours in all", header, rows, markdown)


def chosen(found: Iterable[Result], row: str, estimator: str) -> float | None:
    """The step size with the best validation bound among NumPyro's runs of a third of the steps.

    With a single step size there was no choice, and it is None.
    """
    tried = [r for r in found if (r["row"], r["estimator"]) == (row, estimator)]
    tried = [r for r in tried if r["seed"] == 0 and r["steps"] == ROWS[row].steps // 3]
    tried = [r for r in tried if r["framework"] == "numpyro"]
    if len({r["rate"] for r in tried}) < 2:
        return None
    return min(tried, key=lambda r: r["validation"]["bound"])["rate"]


def picture(found: Iterable[Result], path: Path) -> None:
    """Draw the validation bound along the training, a panel for each model."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    full = [r for r in found if r["steps"] == ROWS[r["row"]].steps and "test" in r]
    names = [row for row in JANG if any(r["row"] == row for r in full)]
    columns = min(len(names), 3)
    size = (4 * columns, 3.5 * -(-len(names) // columns) + 0.5)
    figure, axes = plt.subplots(-(-len(names) // columns), columns, figsize=size, squeeze=False)
    colours = dict(zip(ESTIMATORS, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    styles = dict(zip(FRAMEWORKS, ("-", "--"), strict=True))
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, names, strict=False):
        runs = [r for r in full if r["row"] == row]
        for r in runs:
            steps, bounds = np.array([(p["step"], p["validation"]) for p in r["curve"]]).T
            axis.plot(steps, bounds, styles[r["framework"]], color=colours[r["estimator"]])
        low, high = (f(r["curve"][k]["validation"] for r in runs) for f, k in ((min, -1), (max, 1)))
        axis.set(title=row, xlabel="step", ylim=(low - 1, high + 1))
    axes[0, 0].set_ylabel("nats a validation image")
    used = {r["estimator"] for r in full}, {r["framework"] for r in full}
    lines = [
        plt.Line2D([], [], color=colour, label=ESTIMATORS[name])
        for name, colour in colours.items()
        if name in used[0]
    ]
    lines += [
        plt.Line2D([], [], color="grey", linestyle=style, label=FRAMEWORKS[name])
        for name, style in styles.items()
        if name in used[1]
    ]
    figure.legend(handles=lines, loc="lower center", ncols=4)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=100)
    print(f"The picture is in {path}")
