"""The package: public names, imported frameworks, and the errors of a missing framework."""

import ast
import builtins
import doctest
import importlib
import pydoc
import re
import subprocess
import sys
from typing import Any

import pytest

FACADES = ["relaxed_dists.pyro", "relaxed_dists.numpyro"]
ALONE = ["relaxed_dists.torch", "relaxed_dists.jax"]  # they need torch or JAX alone
EVERY_FACADE = FACADES + ALONE


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process with the same import path."""
    path = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
    return subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)


# A program that imports every module of a package except facades, and prints the frameworks loaded.
EVERY = """
import importlib, pkgutil
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name not in {EVERY_FACADE}:
        importlib.import_module(module.name)
print(sorted({{"torch", "pyro", "jax", "numpyro"}} & {{k for k, v in sys.modules.items() if v}}))
"""


@pytest.mark.parametrize(
    ("package", "own"),
    [
        ("relaxed_dists", []),
        ("relaxed_dists_torch", ["torch"]),
        ("relaxed_dists_jax", ["jax"]),
        ("relaxed_dists_pyro", ["pyro", "torch"]),
        ("relaxed_dists_numpyro", ["jax", "numpyro"]),
    ],
)
def test_each_module_imports_its_own_framework_only(package: str, own: list[str]) -> None:
    """Every module can be imported in a new process in which the other framework is blocked."""
    for framework in own:
        pytest.importorskip(framework)
    others = {"torch", "pyro", "jax", "numpyro"} - set(own)
    blocked = f"sys.modules |= dict.fromkeys({sorted(others)})\n" if own else ""
    result = python(blocked + EVERY.format(package=package, EVERY_FACADE=EVERY_FACADE))
    assert result.stdout.strip() == str(own), result.stderr


def imported(module: str) -> Any:
    """A public module; the test is skipped if the framework that it needs is missing."""
    if module in EVERY_FACADE:
        pytest.importorskip(module.rpartition(".")[2])
    return importlib.import_module(module)


@pytest.mark.parametrize("facade", EVERY_FACADE)
def test_facades_reexport_their_backend(facade: str) -> None:
    """Facade and backend have the same sorted names and the same objects."""
    module = imported(facade)
    backend = importlib.import_module(facade.replace(".", "_"))
    assert module.__all__ == backend.__all__ == sorted(module.__all__)
    assert all(getattr(module, name) is getattr(backend, name) for name in module.__all__)


@pytest.mark.parametrize("pair", [FACADES, ALONE])
def test_both_backends_have_the_same_names(pair: list[str]) -> None:
    """Each public name of a backend is also in the other backend."""
    pytest.importorskip("pyro"), pytest.importorskip("numpyro")
    first, second = (importlib.import_module(facade).__all__ for facade in pair)
    assert first == second


@pytest.mark.parametrize(("facade", "alone"), list(zip(FACADES, ALONE, strict=True)))
def test_names_of_both_facades_of_a_framework_are_the_same_objects(facade: str, alone: str) -> None:
    """The functional layer is written once; the densities and draws are the distributions' own."""
    pytest.importorskip(facade.rpartition(".")[2])
    module, functions = importlib.import_module(facade), importlib.import_module(alone)
    both = set(module.__all__) & set(functions.__all__)
    assert {"GumbelSoftmax", "gumbel_softmax", "straight_through"} <= both
    assert all(getattr(module, name) is getattr(functions, name) for name in both)


@pytest.mark.parametrize(
    ("facade", "missing"),
    [
        (FACADES[0], "pyro"),
        (FACADES[0], "torch"),
        (FACADES[1], "numpyro"),
        (FACADES[1], "jax"),
        (ALONE[0], "torch"),
        (ALONE[1], "jax"),
    ],
)
def test_a_missing_framework_names_the_extra(facade: str, missing: str) -> None:
    """The error of a blocked framework, in a new process, names the extra to install."""
    extra = facade.rpartition(".")[2]
    if missing != extra:
        pytest.importorskip(extra)  # which would be named if it were missing, too
    result = python(f"sys.modules[{missing!r}] = None\nimport {facade}")
    assert f"{facade} needs {missing}, which is not installed. Install" in result.stderr
    assert f"pip install 'relaxed-dists[{extra}]'" in result.stderr


@pytest.mark.parametrize("facade", EVERY_FACADE)
def test_no_other_import_error_is_hidden(facade: str) -> None:
    """A missing dependency of the framework raises its own error."""
    pytest.importorskip(facade.rpartition(".")[2])
    result = python(
        "for name in ('opt_einsum', 'multipledispatch', 'typing_extensions'):\n"
        f"    sys.modules[name] = None\nimport {facade}"
    )
    assert "ModuleNotFoundError" in result.stderr
    assert "Install the extra" not in result.stderr


BARE = {"GumbelSoftmaxReparam", "StraightThrough"}  # they have no arguments


@pytest.mark.parametrize("facade", EVERY_FACADE)
def test_public_docstrings_are_whole(facade: str) -> None:
    """Each public docstring has a reference, an example, and its arguments if there are any."""
    module = imported(facade)
    for name in module.__all__:
        text = getattr(module, name).__doc__ or ""
        assert "Reference:" in text, name
        assert "Example:" in text, name
        assert ("Args:" in text) or name in BARE, name


def unbound(source: str) -> set[str]:
    """The names that a program uses, but neither defines nor imports."""
    used, bound = set(), set(dir(builtins))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    return used - bound


@pytest.mark.parametrize("module", [*EVERY_FACADE, "relaxed_dists.schedules"])
def test_examples_import_what_they_use(module: str) -> None:
    """An example that ``help`` shows runs as it stands, once the module's names are imported."""
    names = imported(module)
    for name in names.__all__:
        examples = doctest.DocTestParser().get_examples(getattr(names, name).__doc__ or "")
        assert unbound("".join(x.source for x in examples)) <= set(names.__all__), name


def shown(public: Any) -> str:
    """What ``help`` prints, without what a framework's classes say."""
    sections = re.split(r"^ \|  -{50,}$", pydoc.plain(pydoc.render_doc(public)), flags=re.M)
    theirs = re.compile(r"inherited from (?!relaxed_dists)")
    return "".join(section for section in sections if not theirs.search(section[:200]))


# LaTeX, roles and directives; and private names of the types in signatures.
MARKUP = re.compile(r"\\|:\w+:`|^[ |]*\.\. |_ops\.Array|estimator_base\.Estimator", re.MULTILINE)


@pytest.mark.parametrize("module", [*EVERY_FACADE, "relaxed_dists.schedules"])
def test_help_is_plain_text(module: str) -> None:
    """``help`` of each public name has formulas and names as plain text."""
    names = imported(module)
    for name in names.__all__:
        text = shown(getattr(names, name))
        found = [line for line in text.splitlines() if MARKUP.search(line)]
        assert not found, name


def test_markup_in_help_is_found() -> None:
    """The check finds each kind of markup, in the text of this library only."""

    class Written:
        r"""A value of :math:`\tau`."""

        def first(self) -> None:
            """That of :class:`Value`.

            .. note:: It is new.
            """

    class Other(int):
        r"""A value of tau."""

    assert [line.strip(" |") for line in shown(Written).splitlines() if MARKUP.search(line)] == [
        r"A value of :math:`\tau`.",
        "That of :class:`Value`.",
        ".. note:: It is new.",
    ]
    assert "numerator" not in shown(Other)
