"""The rooms (folders) of the source have levels: imports go to lower levels, without cycles."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

# The level of each room: those of the core, and above them those of a backend.
CORE = {"_errors": 0, "_ops": 0, "schedules": 0, "_distributions": 1, "_infer": 2, "_config": 3}
FRAMEWORKS = ["relaxed_dists_torch", "relaxed_dists_jax"]  # level 3
BACKEND = {"_older": 4, "_wrappers": 4, "_adapter": 5, "distributions": 6, "infer": 7}
ABOVE = ["relaxed_dists_pyro", "relaxed_dists_numpyro"]  # their __init__ has the public names
FACADES = ["", ".pyro", ".numpyro", ".torch", ".jax"]  # of relaxed_dists


def sources() -> dict[str, Path]:
    """The modules of the core and of both backends, found without importing a framework."""
    found = {}
    for package in ["relaxed_dists", *FRAMEWORKS, *ABOVE]:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        root = Path(spec.origin).parent
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


SOURCES = sources()


def imported(name: str, text: str, package: bool) -> Iterator[str]:
    """The modules of this library that a module imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(name.split(".")[: None if package else -1])
            for _ in range(node.level - 1):
                base = base.rpartition(".")[0]
            inside = ".".join(filter(None, [base if node.level else "", node.module]))
            modules = {f"{inside}.{each.name}" for each in node.names}
            yield from modules & SOURCES.keys() or {inside} & SOURCES.keys()
        elif isinstance(node, ast.Import):
            yield from {each.name for each in node.names} & SOURCES.keys()


def arrows() -> set[tuple[str, str]]:
    """All imports, as pairs of the importing and the imported module."""
    return {
        (name, target)
        for name, path in SOURCES.items()
        for target in imported(name, path.read_text(), path.name == "__init__.py")
    }


def floor(module: str) -> int:
    """The level of a module's room."""
    if module in [f"relaxed_dists{facade}" for facade in FACADES]:
        return 9
    package, *room = module.split(".")
    if package in FRAMEWORKS:
        return 3
    return (CORE if package == "relaxed_dists" else {**BACKEND, "": 8})[room[0] if room else ""]


def upward(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The imports of a module at a higher level."""
    return sorted((a, b) for a, b in found if floor(a) < floor(b))


def circle(found: set[tuple[str, str]]) -> set[str]:
    """The modules in import cycles: those left after removing modules without remaining imports."""
    left = {module for arrow in found for module in arrow}
    while free := {m for m in left if not any(a == m and b in left for a, b in found)}:
        left -= free
    return left


def test_imports_go_down() -> None:
    """Imports go from higher to lower levels, and have no cycles within a level."""
    found = arrows()
    assert len(found) > 200
    assert not upward(found)
    assert not circle(found)


def test_an_import_of_what_stands_higher_fails() -> None:
    """The check fails for an import of a higher level, and for an import that closes a cycle."""
    up = ("relaxed_dists_pyro.distributions.kl", "relaxed_dists_pyro.infer.svi")
    assert upward({*arrows(), up}) == [up]
    down = ("relaxed_dists_pyro.infer.pairing", "relaxed_dists_pyro.infer.svi")
    assert circle({*arrows(), down}) >= set(down)


def too_long(sources: dict[str, str]) -> list[str]:
    """The modules of more than 330 lines whose first line does not say why."""
    return [
        name
        for name, text in sources.items()
        if text.count("\n") > 330 and "(long: " not in text.partition("\n")[0]
    ]


def test_files_are_short() -> None:
    """Modules have at most 330 lines, or say why not in their first line."""
    texts = {name: path.read_text() for name, path in SOURCES.items()}
    assert not too_long(texts)
    assert too_long({**texts, "another": "\n" * 331}) == ["another"]


def test_each_room_is_there() -> None:
    """Each module has a level, and each level has modules."""
    assert {floor(module) for module in SOURCES} == set(range(10))
