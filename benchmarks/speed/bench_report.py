"""The report of the benchmarks: tables of ratios with their goals and of times, and a picture."""

from pathlib import Path
from typing import Any

from benchmarks.tables import show

SHAPES = ((100, 20, 10), (4096, 64), (256, 4096), (16, 50257), (1, 10))
Key = tuple[str, str, str, str]  # framework, operation, subject, and the base of the ratio
# The largest ratio that meets the goal, for each shape.
GOALS: dict[Key, tuple[float, ...]] = {
    ("torch", "forward", "ours", "torch"): (0.55, 0.25, 0.33, 0.45),
    ("torch", "ELBO term", "ours", "torch"): (0.45, 0.27, 0.25, 0.28),
    ("torch", "forward", "ours", "ours, not validating"): (1.1,) * 4,
    ("torch", "ELBO term", "ours", "ours, not validating"): (1.1,) * 4,
    ("torch", "hard, forward", "ours", "Pyro"): (0.33, 0.35, 0.44, 0.44),
    ("torch", "hard, ELBO term", "ours", "Pyro"): (0.44, 0.25, 0.25, 0.30),
    ("torch", "compiled ELBO term", "ours", "torch"): (0.6,),
    ("torch", "SVI step", "ours", "Pyro"): (0.65,),
    ("jax", "forward", "ours", "by hand"): (0.45, 1.0, 1.0, 1.0),
    ("jax", "ELBO term", "ours", "by hand"): (0.5, 0.8, 0.85, 0.9),
    ("jax", "SVI step", "ours", "by hand"): (0.95,),
    **{
        ("jax", kind + operation, "ours", "TFP"): (1.0,) * 5
        for kind in ("", "binary, ")
        for operation in ("forward", "forward and backward", "ELBO term")
    },
}
IMPORT = 50.0  # the most milliseconds that this library may add to a framework's import
GPU = 0  # the number of threads that stands for the GPU


def name(shape: tuple[int, ...]) -> str:
    """The name of a shape, like 100x20x10."""
    return "x".join(map(str, shape))


def on(threads: int) -> str:
    """The name of what a run uses: the GPU, or a number of threads."""
    return "GPU" if threads == GPU else f"{threads} thread{'s' * (threads > 1)}"


def _cases(found: list[dict[str, Any]], threads: int) -> dict[tuple[str, str, str], Any]:
    return {
        (r["framework"], r["operation"], r["shape"]): r for r in found if r["threads"] == threads
    }


def goals_table(found: list[dict[str, Any]], threads: int, markdown: bool = False) -> int:
    """Print the measured ratios with their goals, and return how many goals are missed."""
    cases, rows, missed = _cases(found, threads), [], 0
    for (framework, operation, subject, base), goals in GOALS.items():
        cells = []
        for shape, goal in zip(SHAPES, (*goals, *(None,) * 5), strict=False):
            case = cases.get((framework, operation, name(shape)), {"ratios": {}})
            got = case["ratios"].get(f"{subject} / {base}")
            late = got is not None and goal is not None and got > goal
            missed += late
            against = "" if goal is None else f" ({goal:.2f}){' x' if late else ''}"
            cells.append("" if got is None else f"{got:.2f}{against}")
        if any(cells):
            rows.append((f"{framework}: {operation}", subject, base, *cells))
    title = f"Ratios of times, {on(threads)}: in brackets the goal, x where it is missed"
    show(title, ("operation", "of", "to", *map(name, SHAPES)), rows, markdown)
    return missed


def imports_table(added: dict[str, float], markdown: bool = False) -> int:
    """Print the milliseconds that this library adds to imports; return how many miss the goal."""
    rows = [
        (f"import relaxed_dists.{root}", root, f"{ms:.0f} ({IMPORT:.0f}){' x' * (ms > IMPORT)}")
        for root, ms in added.items()
    ]
    show("Import", ("of", "after import of", "milliseconds (goal)"), rows, markdown)
    return sum(ms > IMPORT for ms in added.values())


def times_table(found: list[dict[str, Any]], framework: str, threads: int) -> None:
    """Print the milliseconds of all operations and subjects of a framework."""
    rows: dict[tuple[str, str], list[str]] = {}
    for (of, operation, shape), case in _cases(found, threads).items():
        for subject, ms in case["ms"].items() if of == framework else ():
            row = rows.setdefault((operation, subject), [""] * len(SHAPES))
            row[[*map(name, SHAPES)].index(shape)] = f"{ms:.3f}"
    title = f"{framework}, {on(threads)}: milliseconds"
    cells = ((*key, *row) for key, row in rows.items())
    show(title, ("operation", "of", *map(name, SHAPES)), cells)


def draw(found: list[dict[str, Any]], threads: int, path: Path) -> None:
    """Draw the ratios to other libraries as bars, and the goals as lines."""
    from matplotlib.figure import Figure

    cases = _cases(found, threads)
    keys = [key for key in GOALS if (*key[:2], name(SHAPES[0])) in cases and len(GOALS[key]) >= 4]
    figure = Figure((11, 1 + 0.5 * len(keys)), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for i, (panel, shape) in enumerate(zip(panels, SHAPES, strict=False)):
        for y, key in enumerate(reversed(keys)):
            got = cases[(*key[:2], name(shape))]["ratios"].get(f"{key[2]} / {key[3]}")
            if got is not None:
                panel.barh(y, got, color="C0" if got <= GOALS[key][i] else "C1")
            panel.plot([GOALS[key][i]] * 2, [y - 0.4, y + 0.4], "k")
        panel.set_title(name(shape))
        panel.axvline(1, color="grey", lw=0.5)
    labels = [f"{key[0]}: {key[1]}, to {key[3]}" for key in reversed(keys)]
    panels[0].set_yticks(range(len(keys)), labels)
    figure.supxlabel(f"ratio of times, {on(threads)}, less is faster; the line is the goal")
    figure.savefig(path, dpi=100)
