"""Speed against the peers, in ratios of times taken in turn, with the goals beside them.

    python -m benchmarks.bench [--seconds 0.5] [--threads 1 2] [--only torch] [--out bench]

Each framework and number of threads has a process of its own, and every comparison is within one:
the medians over rounds, each of which runs every subject once. Tables go to the terminal, all
numbers to bench.json and a picture to bench.png. A goal that is missed is marked with an x.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.timing import interleaved, medians, ratio

SHAPES = ((100, 20, 10), (4096, 64), (256, 4096), (16, 50257), (1, 10))
FRAMEWORKS = ("torch", "jax")
PACKAGES = {
    "torch": ("torch", "pyro-ppl"),
    "jax": ("jax", "numpyro", "tensorflow-probability"),
}
Key = tuple[str, str, str, str]  # framework, operation, subject, and what it is relative to
# At most, for the first four shapes.
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
        ("jax", operation, "ours", "TFP"): (1.0,) * 4
        for operation in ("forward", "forward and backward", "ELBO term", "binary, forward")
    },
}


def name(shape: tuple[int, ...]) -> str:
    """100x20x10."""
    return "x".join(map(str, shape))


def measure(framework: str, threads: int, seconds: float) -> list[dict[str, Any]]:
    """All cases of a framework in this process: operation, shape, and the times of each subject."""
    if hasattr(os, "sched_setaffinity"):  # JAX has no other way to be told
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from benchmarks import bench_svi

    whole: dict[str, Any]
    if framework == "torch":
        import torch

        from benchmarks import bench_torch as bench

        torch.set_num_threads(threads)
        whole = {"SVI step": bench_svi.torch_steps()}
    else:
        from benchmarks import bench_jax as bench  # type: ignore[no-redef]

        whole = {"SVI step": bench_svi.jax_steps()}
    found = []

    def add(operation: str, shape: tuple[int, ...], steps: Any) -> None:
        times = interleaved(steps, seconds)
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


def goals_table(found: list[dict[str, Any]], threads: int) -> tuple[Table, int]:
    """The measured ratios with their goals, and how many are missed."""
    table = Table(
        "operation", "of", "to", title=f"Ratios of times, {threads} thread(s): goal in ()"
    )
    for shape in SHAPES[:4]:
        table.add_column(name(shape), justify="right")
    missed = 0
    rows = {
        (r["framework"], r["operation"], r["shape"]): r for r in found if r["threads"] == threads
    }
    for (framework, operation, subject, base), goals in GOALS.items():
        cells = []
        for shape, goal in zip(SHAPES[:4], goals, strict=False):
            row = rows.get((framework, operation, name(shape)), {"ratios": {}})
            got = row["ratios"].get(f"{subject} / {base}")
            late = got is not None and got > goal
            missed += late
            cells.append("" if got is None else f"{got:.2f} ({goal:.2f}){' x' if late else '  '}")
        if any(cells):
            table.add_row(f"{framework}: {operation}", subject, base, *cells)
    return table, missed


def times_table(found: list[dict[str, Any]], framework: str, threads: int) -> Table:
    """The milliseconds of everything."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for r in found:
        if (r["framework"], r["threads"]) == (framework, threads):
            for subject, ms in r["ms"].items():
                rows.setdefault((r["operation"], subject), {})[r["shape"]] = ms
    table = Table("operation", "of", title=f"{framework}, {threads} thread(s): milliseconds")
    for shape in SHAPES:
        table.add_column(name(shape), justify="right")
    for (operation, subject), ms in rows.items():
        cells = (f"{ms[name(s)]:.3f}" if name(s) in ms else "" for s in SHAPES)
        table.add_row(operation, subject, *cells)
    return table


def draw(found: list[dict[str, Any]], threads: int, path: Path) -> None:
    """The ratios to the peers as bars, the goals as lines."""
    from matplotlib.figure import Figure

    rows = {
        (r["framework"], r["operation"], r["shape"]): r for r in found if r["threads"] == threads
    }
    keys = [key for key in GOALS if (*key[:2], name(SHAPES[0])) in rows and len(GOALS[key]) == 4]
    figure = Figure((11, 1 + 0.5 * len(keys)), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for i, (panel, shape) in enumerate(zip(panels, SHAPES, strict=False)):
        for y, key in enumerate(reversed(keys)):
            got = rows[(*key[:2], name(shape))]["ratios"].get(f"{key[2]} / {key[3]}")
            if got is not None:
                panel.barh(y, got, color="C0" if got <= GOALS[key][i] else "C1")
            panel.plot([GOALS[key][i]] * 2, [y - 0.4, y + 0.4], "k")
        panel.set_title(name(shape))
        panel.axvline(1, color="grey", lw=0.5)
    labels = [f"{key[0]}: {key[1]}, to {key[3]}" for key in reversed(keys)]
    panels[0].set_yticks(range(len(keys)), labels)
    figure.supxlabel("ratio of times, less is faster; the line is the goal")
    figure.savefig(path, dpi=100)


def installed(packages: tuple[str, ...]) -> str:
    """Their versions."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def machine() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {len(models) or os.cpu_count()} cores"


def main() -> int:
    """Print the tables; the number of goals missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=0.4, help="of each comparison, about")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=FRAMEWORKS)
    parser.add_argument("--out", default="bench", help="where to put .json and .png")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    frameworks = (options.only,) if options.only else FRAMEWORKS
    if options.child:
        json.dump(measure(frameworks[0], options.threads[0], options.seconds), sys.stdout)
        return 0
    console, found = Console(width=150), []
    about = f"{machine()}; Python {platform.python_version()}; float32; "
    about += "; ".join(installed(PACKAGES[f]) for f in frameworks)
    console.print(about)
    for framework in frameworks:
        for threads in options.threads:
            command = [sys.executable, "-m", "benchmarks.bench", "--child", "--only", framework]
            command += ["--threads", str(threads), "--seconds", str(options.seconds)]
            found += json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            console.print(times_table(found, framework, threads))
    missed = 0
    for threads in options.threads:
        table, some = goals_table(found, threads)
        console.print(table)
        missed += some
        draw(found, threads, Path(f"{options.out}-{threads}.png"))
    Path(f"{options.out}.json").write_text(json.dumps({"about": about, "cases": found}, indent=1))
    console.print(f"{missed} goals missed." if missed else "All goals are met.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
