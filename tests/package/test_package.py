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


def test_the_core_imports_no_framework() -> None:
    """Neither torch nor jax."""
    check = "import relaxed_dists; print(sorted({'torch', 'jax', 'pyro'} & set(sys.modules)))"
    assert python(check).stdout.strip() == "[]"


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
