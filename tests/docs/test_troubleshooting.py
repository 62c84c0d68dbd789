"""docs/troubleshooting.md has the text of every error and warning, and none that nobody raises."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "relaxed_dists").is_dir():
    pytest.skip("compares the pages with the sources, which are not here", allow_module_level=True)
DOCS = ROOT / "docs"
TREES = [
    ast.parse(path.read_text())
    for folder in ("relaxed_dists", "backends")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
RAISED = {"ValueError", "NotImplementedError", "ModuleNotFoundError", "NoGradient", "warn"}
# These are caught inside the library; their texts are parts of other messages.
CAUGHT = {"OSError", "TypeError", "BadZipFile", "CannotCompile"}
FUNCTIONS = {
    node.name: node
    for tree in TREES
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef)
}


def last(node: ast.expr) -> str:
    """The last name of an expression such as _errors.lost."""
    return ast.unparse(node).rpartition(".")[2]


def assigned(tree: ast.AST) -> dict[str, ast.expr]:
    """The expressions of the names that a module or a function assigns exactly once."""
    nodes = list(ast.walk(tree))
    count = Counter(n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    found = [n for n in nodes if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)]
    return {last(n.targets[0]): n.value for n in found if count[last(n.targets[0])] == 1}


CONSTANTS = {k: v for tree in TREES for k, v in assigned(tree).items() if k.isupper()}


def text(node: ast.AST | None, names: dict[str, ast.expr]) -> str:
    """The string that an expression makes, with … for what is known only when it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text(value, names) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return text(node.value, names)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text(node.left, names) + text(node.right, names)
    if isinstance(node, ast.Name | ast.Attribute):
        value = names.get(last(node), CONSTANTS.get(last(node)))
        return "…" if value is None else text(value, {})
    return "…"


@cache
def messages() -> set[str]:
    """The texts of all errors and warnings that the library makes."""
    found, seen = set(), set()
    functions = [n for tree in TREES for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    for scope in [*functions, *TREES]:
        names = assigned(scope) if isinstance(scope, ast.FunctionDef) else {}
        for call in ast.walk(scope):
            if isinstance(call, ast.Call) and call.args and call not in seen:
                seen.add(call)
                first, kind = call.args[0], last(call.func)
                if (
                    kind in RAISED
                    and isinstance(first, ast.Call)  # a function makes the text
                    and last(first.func) in FUNCTIONS
                ):
                    (made,) = [
                        n.value
                        for n in ast.walk(FUNCTIONS[last(first.func)])
                        if isinstance(n, ast.Return)
                    ]
                    found.add(text(made, {}))
                elif kind in RAISED:
                    found.add(text(first, names))
    return {re.sub("…+", "…", message) for message in found}


def entries() -> list[str]:
    """The texts on the page, which are the beginnings of messages."""
    page = (DOCS / "troubleshooting.md").read_text()
    page = page.partition("## This library's messages")[2].partition("\n## ")[0]
    return re.findall(r"^- `+ ?(.+?) ?`+$", page, re.MULTILINE)


def test_every_text_is_on_the_page() -> None:
    """Each message begins with one entry of the page, and each entry begins one message."""
    made, listed = messages(), entries()
    assert len(made) > 100
    assert len(listed) == len(set(listed))
    for message in sorted(made):
        assert len([x for x in listed if message.startswith(x)]) == 1, message
    for entry in listed:
        found = [message for message in made if message.startswith(entry)]
        assert len(found) == 1, entry


def test_no_other_kind_of_error_has_a_text() -> None:
    """An exception that is made with a text is one that the first test reads, or is caught."""
    for tree in TREES:
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                made = last(node.exc.func)
                assert made in RAISED | CAUGHT or not made[0].isupper(), made


def pages() -> Iterator[str]:
    """The pages that messages end in."""
    for message in messages():
        yield from re.findall(r"docs/\S+?\.md", message)
        # The address comes last, where a terminal that cuts a text off keeps it.
        assert "docs/" not in message or re.search(r" See docs/[\w/-]+\.md\.$", message), message


def test_the_pages_of_messages_exist() -> None:
    """Each message that names a page ends in its path within the docs."""
    found = set(pages())
    assert len(found) > 5
    assert all((ROOT / page).is_file() for page in found), found
