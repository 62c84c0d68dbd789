"""Run the distributions over a grid of extreme parameters, and print failures, beside the peers'.

Run ``make torture``, or ``python -m benchmarks.torture --help``. The exit status is 1 if a
distribution of this library fails: a draw without a density, a gradient that is not finite, a draw
that its own distribution refuses, or an error beyond its bound.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.torture import accuracy, grid, subjects
from benchmarks.torture.subjects import Subject

NOTES = """\
A case is one draw, of a row of logits of its own ({size}).
An exception is a failure.
  log_prob: it is not finite for a draw just made, the value detached and not.
  gradient: it is not finite, of a function of the draw and of its log_prob, by logits (a case a
    row) and by temperature. One too large for float16, as float32 shows, counts as right.
  validation: own draws are refused (TFP refuses whole batches: not counted).
  copy: log_prob is not finite for a value made of the draw's numbers alone. A straight-through
    value's say no density: there the error that names this is right.
Compiled by torch.compile(fullgraph=True) or jax.jit: a part of the grid (K = {compiled}).
Errors are |error| / max(1, |reference|) at points inside that are normal numbers, half of them
draws and half flat. log_prob and its gradients by mpmath at 50 digits; far out are logits of scale
10 and temperature 10. Own draws by their noise: its density does not depend on the logits.\
"""


@dataclass
class Results:
    """The findings of one backend's run."""

    counts: list[tuple[Subject, bool, grid.Counts]] = field(default_factory=list)
    errors: list[tuple[Subject, list[tuple[float, ...]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """Our distributions' failures."""
        found = [
            f"{subject.name} ({subject.backend}): {grid.CHECKS[check]}"
            for subject, _, counts in self.counts
            for check in grid.CHECKS
            if subject.ours and counts.failed[check]
        ]
        found += [
            f"{subject.name} ({subject.backend}): {measure} beyond its bound in {dtype}"
            for subject, errors in self.errors
            for dtype, row in zip(accuracy.BOUNDS, errors, strict=True)
            for measure, error, bound in zip(
                accuracy.MEASURES, row, accuracy.BOUNDS[dtype], strict=True
            )
            if subject.ours and not error <= bound
        ]
        return found


def run(backend: str, quick: bool, alone: bool) -> Results:
    """Run the grid and the accuracy of a backend's distributions, and of its peers."""
    size, results = grid.QUICK if quick else grid.FULL, Results()
    peers, note = ([], "") if alone else subjects.peers(backend)
    results.notes += [note] * bool(note)
    for subject in subjects.ours(backend) + peers:
        for compiled in (False, True) if subject.ours and size.compiled else (False,):
            counts = grid.count(subject, size, compiled)
            results.counts.append((subject, compiled, counts))
        if not subject.hard and (subject.name in subjects.SPACES or not subject.ours):
            errors = [accuracy.measure(subject, dtype, quick) for dtype in accuracy.BOUNDS]
            results.errors.append((subject, errors))
    return results


def _portable(
    backend: str, quick: bool, alone: bool
) -> tuple[list[Any], list[Any], list[str], list[str]]:
    """The results of a run in a form that can be pickled, since subjects contain functions."""
    found = run(backend, quick, alone)
    counts = [(_label(s, c), c_) for s, c, c_ in found.counts]
    return counts, [(_label(s, False), e) for s, e in found.errors], found.notes, found.wrong()


def _label(subject: Subject, compiled: bool) -> tuple[str, str]:
    library = f"ours, {subject.backend}" if subject.ours else subject.library
    return subject.name, library + ", compiled" * compiled


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the grid, print the tables, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small part, in half a minute")
    parser.add_argument("--ours", action="store_true", help="without the peers")
    parser.add_argument("--backend", choices=["pyro", "numpyro"], help="only one of the two")
    options = parser.parse_args(arguments)
    backends = [options.backend] if options.backend else ["pyro", "numpyro"]
    missing = [name for name in backends if importlib.util.find_spec(name) is None]
    backends = [name for name in backends if name not in missing]
    calls = [(name, options.quick, options.ours) for name in backends]
    start = time.perf_counter()
    if len(backends) > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each backend
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            found = pool.starmap(_portable, calls)
    else:
        found = [_portable(*call) for call in calls]
    counts, errors, notes, wrong = (
        [x for part in parts for x in part] for parts in zip(*found, strict=True)
    )
    notes += [f"{name} is not installed: its half is missing." for name in missing]
    _print(counts, errors, notes, options.quick)
    print(f"{time.perf_counter() - start:.0f} s. Ours: {'; '.join(wrong) or 'nothing fails'}.")
    return 1 if wrong or not backends else 0


def _print(counts: list[Any], errors: list[Any], notes: list[str], quick: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)

    def table(title: str, columns: Sequence[str]) -> Table:
        made = Table(title=title, box=box.SIMPLE, title_justify="left")
        for heading in ("distribution", "of"):
            made.add_column(heading, no_wrap=True)
        for heading in columns:
            made.add_column(heading, justify="right")
        return made

    def add(to: Table, label: tuple[str, str], cells: Sequence[str]) -> None:
        to.add_row(*label, *cells, style="bold" if label[1].startswith("ours") else None)

    shares = table("Cases that fail", list(grid.CHECKS))
    for label, found in counts:
        cells = [(found.failed[check], found.cases[check]) for check in grid.CHECKS]
        shown = [f"{100 * bad / n:.3g} % ({bad:,})" if bad else f"0 of {n:,}" for bad, n in cells]
        add(shares, label, [text.replace("0 of 0", "-") for text in shown])
    console.print(shares)
    heads = [
        f"{measure}\n{dtype}\n< {bound:.0e}"
        for dtype, bounds in accuracy.BOUNDS.items()
        for measure, bound in zip(accuracy.MEASURES, bounds, strict=True)
    ]
    worst = table("Largest errors", heads)
    for label, rows in errors:
        add(worst, label, [f"{x:.1e}" for row in rows for x in row])
    console.print(worst)
    size = grid.QUICK if quick else grid.FULL
    ks = ", ".join(map(str, size.temperatures))
    compiled = ", ".join(map(str, size.compiled)) or "none here"
    text = f"K = {ks}; logits of scale {', '.join(map(str, grid.SCALES))}; {', '.join(size.dtypes)}"
    console.print("\n".join([NOTES.format(size=text, compiled=compiled), *notes]), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
