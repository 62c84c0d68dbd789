"""The tables of the benchmarks: ratios of times with their goals, and the times."""

from typing import Any

from benchmarks.tables import show

SHAPES = ((1, 10), (100, 20, 10), (4096, 64), (256, 4096), (16, 50257))
SUBSETS = ((256, 400, 10), (32, 1000, 100))  # rows, categories and k of the relaxed subsets
Goals = tuple[float | None, ...]  # the largest ratio that meets the goal, for each shape
KERNEL = (0.50, 0.40, 0.25, 0.25, 0.25)
SOFTMAX = (1.0, 0.45, 0.25, 0.25, 0.25)
TERM = (0.45, 0.30, 0.17, 0.13, 0.20)
NOT_SLOWER = (1.05, 1.0, 1.0, 1.0, 1.0)


def subset_name(case: tuple[int, ...]) -> str:
    """The name of the operation on relaxed subsets of k of some categories, in rows."""
    return "subset of {2} of {1}, {0} rows".format(*case)


# By framework, operation and peer: ours has its goal for the ratio to this peer.
GOALS: dict[tuple[str, str, str], Goals] = {
    ("torch", "draw", "torch"): (0.50, 0.25, 0.20, 0.20, 0.25),
    ("torch", "draw", "torch.rand"): (None, None, 1.0, 1.0, 1.0),
    ("torch", "ELBO term", "torch"): TERM,
    ("torch", "hard ELBO term", "Pyro"): TERM,
    ("torch", "binary ELBO term", "torch"): KERNEL,
    ("torch", "binary hard ELBO term", "Pyro"): KERNEL,
    ("torch", "gumbel_softmax", "F.gumbel_softmax"): SOFTMAX,
    ("torch", "gumbel_softmax, hard", "F.gumbel_softmax"): SOFTMAX,
    ("torch", "gumbel_softmax, and back", "F.gumbel_softmax"): SOFTMAX,
    ("torch", "gumbel_softmax, hard, and back", "F.gumbel_softmax"): SOFTMAX,
    ("torch", "OneHotCategorical, and back", "F.gumbel_softmax"): (1.5, 0.60, 0.35, 0.30, 0.30),
    ("torch", "plain draw and mass", "Pyro"): (1.0, 0.60, 0.50, 0.50, 0.50),
    ("torch", "compiled ELBO term", "torch"): (None, 0.50, 0.50, None, None),
    ("torch", "SVI step", "free"): (None, 1.08, None, None, None),
    ("torch", "SVI step", "Pyro"): (None,) * 5,
    ("jax", "draw", "by hand"): NOT_SLOWER,
    ("jax", "draw", "TFP"): NOT_SLOWER,
    ("jax", "ELBO term", "by hand"): (1.05, 0.50, 1.0, 1.0, 1.0),
    ("jax", "ELBO term", "TFP"): NOT_SLOWER,
    ("jax", "binary ELBO term", "NumPyro"): NOT_SLOWER,
    ("jax", "binary ELBO term", "TFP"): NOT_SLOWER,
    **{  # in the column of the SVI step, though of their own shapes
        (framework, subset_name(case), "the paper's loop"): (None, 1.0, None, None, None)
        for framework in ("torch", "jax")
        for case in SUBSETS
    },
}
Found = dict[tuple[str, str, str], Any]  # by framework, operation and shape


def name(shape: tuple[int, ...]) -> str:
    """The name of a shape, like 100x20x10."""
    return "x".join(map(str, shape))


def ratios(found: Found, markdown: bool = False, goals: bool = True) -> int:
    """Print our times divided by the peers', with goals or without; return how many are missed."""
    rows, all_missed = [], 0
    for (framework, operation, peer), wanted in GOALS.items():
        cells, missed, met = [], 0, 0
        for shape, goal in zip(SHAPES, wanted, strict=True):
            ratio = found.get((framework, operation, name(shape)), {"ratios": {}})["ratios"].get(
                peer
            )
            late = ratio is not None and goal is not None and ratio > goal
            missed += late
            met += ratio is not None and goal is not None and not late
            cells.append("" if ratio is None else f"{ratio:.2f}{' x' * (late and goals)}")
        if any(cells):
            listed = " ".join("-" if goal is None else f"{goal:.2f}" for goal in wanted)
            end = [listed, f"{met} of {met + missed}"] if met + missed else ["", ""]
            rows.append([f"{framework}: {operation}", peer, *cells, *(end if goals else ())])
            all_missed += missed
    title = "Time, divided by that of the peer" + ", x where a goal is missed" * goals
    header = ["operation", "to", *map(name, SHAPES), *(("goals", "met") if goals else ())]
    show(title, header, rows, markdown)
    return all_missed


def milliseconds(found: Found) -> None:
    """Print the milliseconds of all operations and subjects."""
    rows: dict[tuple[str, str], list[str]] = {}
    for (framework, operation, shape), case in found.items():
        for subject, ms in case["ms"].items():
            row = rows.setdefault((f"{framework}: {operation}", subject), [""] * len(SHAPES))
            row[[*map(name, SHAPES)].index(shape)] = f"{ms:.3f}"
    cells = ((*key, *row) for key, row in rows.items())
    show("Milliseconds", ("operation", "of", *map(name, SHAPES)), cells)
