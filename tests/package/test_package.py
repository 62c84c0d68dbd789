"""The package: public names, what an import brings, and what a missing framework says."""

import importlib
import subprocess
import sys

import pytest

FACADES = ["relaxed_dists.pyro", "relaxed_dists.numpyro"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process that finds what this one finds."""
    path = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
    return subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)


# Imports every module of a package but the facades, and prints which frameworks that brings.
EVERY = """
import importlib, pkgutil
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name not in {FACADES}:
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
    """Every module, in a fresh process where the other framework is as if not installed."""
    for framework in own:
        pytest.importorskip(framework)
    others = {"torch", "pyro", "jax", "numpyro"} - set(own)
    blocked = f"sys.modules |= dict.fromkeys({sorted(others)})\n" if own else ""
    result = python(blocked + EVERY.format(package=package, FACADES=FACADES))
    assert result.stdout.strip() == str(own), result.stderr


@pytest.mark.parametrize("facade", FACADES)
def test_facades_reexport_their_backend(facade: str) -> None:
    """The same names, sorted, and each is there."""
    pytest.importorskip(facade.rpartition(".")[2])
    module = importlib.import_module(facade)
    backend = importlib.import_module(facade.replace(".", "_"))
    assert module.__all__ == backend.__all__ == sorted(module.__all__)
    assert all(getattr(module, name) is getattr(backend, name) for name in module.__all__)


def test_both_backends_have_the_same_names() -> None:
    """No name in one that is not in the other."""
    pytest.importorskip("pyro"), pytest.importorskip("numpyro")
    first, second = (importlib.import_module(facade).__all__ for facade in FACADES)
    assert first == second


@pytest.mark.parametrize(
    ("facade", "missing"),
    [(FACADES[0], "pyro"), (FACADES[0], "torch"), (FACADES[1], "numpyro"), (FACADES[1], "jax")],
)
def test_a_missing_framework_names_the_extra(facade: str, missing: str) -> None:
    """Blocked in a fresh process, as if it were not installed."""
    result = python(f"sys.modules[{missing!r}] = None\nimport {facade}")
    extra = facade.rpartition(".")[2]
    assert f"{facade} needs {missing}, which is not installed. Install" in result.stderr
    assert f"pip install 'relaxed-dists[{extra}]'" in result.stderr


@pytest.mark.parametrize("facade", FACADES)
def test_no_other_import_error_is_hidden(facade: str) -> None:
    """A missing dependency of the framework is reported as itself."""
    pytest.importorskip(facade.rpartition(".")[2])
    result = python(
        f"sys.modules['opt_einsum'] = sys.modules['multipledispatch'] = None\nimport {facade}"
    )
    assert "ModuleNotFoundError" in result.stderr
    assert "Install the extra" not in result.stderr


BARE = {"GumbelSoftmaxReparam", "StraightThrough"}  # without arguments


@pytest.mark.parametrize("facade", FACADES)
def test_public_docstrings_are_whole(facade: str) -> None:
    """A reference and an example in each; arguments where there are some."""
    pytest.importorskip(facade.rpartition(".")[2])
    module = importlib.import_module(facade)
    for name in module.__all__:
        text = getattr(module, name).__doc__ or ""
        assert "Reference:" in text, name
        assert "Example:" in text, name
        assert ("Args:" in text) or name in BARE, name
