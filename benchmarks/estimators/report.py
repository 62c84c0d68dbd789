"""The tables of the comparison on four problems, from their JSONs alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import show

ORDER = ("digits", "mixture", "chain", "table")
Result = dict[str, Any]


def results(folder: Path) -> list[Result]:
    """The results in a folder, in the tables' order."""
    paths = [folder / f"{name}.json" for name in ORDER]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def scores(way: Result) -> np.ndarray:
    """The test score of each seed, which is the first of its numbers."""
    return np.array([next(iter(test.values())) for test in way["test"]])


def spread(numbers: np.ndarray) -> str:
    """The mean and the deviation."""
    mean = round(numbers.mean(), 2) + 0.0  # which has no -0.00
    return f"{mean:.2f}" + (f" ± {numbers.std(ddof=1):.2f}" if len(numbers) > 1 else "")


def reference(result: Result) -> float:
    """The mean score of enumeration; where there is none, the best mean."""
    ways = result["ways"]
    chosen = [ways["enumeration"]] if "enumeration" in ways else ways.values()
    return max(scores(way).mean() for way in chosen)


def tables(found: list[Result], markdown: bool) -> None:
    """Print how much each way falls short on each problem, then a table for each problem."""
    ways = [result["ways"] for result in found]
    rows = [
        [
            label,
            *(
                spread(reference(r) - scores(r["ways"][label])) if label in r["ways"] else ""
                for r in found
            ),
        ]
        for label in dict.fromkeys(label for way in reversed(ways) for label in way)
    ]
    header = ["way", *(result["about"] for result in found)]
    show("Nats a test datum short of enumeration; less is better", header, rows, markdown)
    for result in found:
        kinds = next(iter(result["ways"].values()))["test"][0]
        rows = [
            [
                label,
                f"{way['rate']:g}",
                *(spread(np.array([test[kind] for test in way["test"]])) for kind in kinds),
                f"{way['ratio']:.1f}" if "ratio" in way else "",
            ]
            for label, way in result["ways"].items()
        ]
        seeds = "a seed" if result["seeds"] == 1 else f"{result['seeds']} seeds"
        title = f"{result['about']}: nats a test datum, {result['steps']} steps, {seeds}"
        show(title, ["way", "step size", *kinds, "time"], rows, markdown)
