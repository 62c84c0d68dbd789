"""Count the lines of code of each room, by `make lines`, or with the folder of another checkout.

A room is a folder of modules. A line of code has a token that is neither in a comment nor in a
docstring. "adapter" is a backend's `_adapter.py` and `_wrappers.py`. "families" is its
`distributions/` without kl, constraints and sites, which are "distributions, others".
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
OTHERS = {"__init__", "kl", "constraints", "sites"}
NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def code_lines(text: str) -> int:
    """The number of lines of code of a module."""
    found = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            found -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(found)


def room(path: Path) -> str:
    """The room of a module, by the module's path, which starts with its package."""
    package, *folders = path.parent.parts
    if folders == ["distributions"]:
        return f"{package} " + ("distributions, others" if path.stem in OTHERS else "families")
    if path.stem in {"_adapter", "_wrappers"}:
        return f"{package} adapter"
    return " ".join([package, *folders])


def rooms(root: Path) -> Counter[str]:
    """The lines of code of each room of a checkout."""
    found: Counter[str] = Counter()
    for folder in (root, root / "backends"):
        for path in folder.glob("relaxed_dists*/**/*.py"):
            found[room(path.relative_to(folder))] += code_lines(path.read_text())
    return found


def main() -> None:
    """Print the lines of each room, and sums of rooms."""
    found = rooms(Path(*sys.argv[1:2] or [ROOT]))
    sums = {
        "families and adapters": sum(n for k, n in found.items() if k.endswith(("ies", "adapter"))),
        "core": sum(n for k, n in found.items() if k.split()[0] == "relaxed_dists"),
        "backends": sum(n for k, n in found.items() if k.split()[0] != "relaxed_dists"),
        "total": found.total(),
    }
    for name, lines in [*sorted(found.items()), *sums.items()]:
        print(f"{name:<48}{lines:>6,}")


if __name__ == "__main__":
    main()
