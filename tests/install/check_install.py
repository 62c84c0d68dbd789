"""Check an installed wheel: its imports, and the errors of facades without their extra.

Usage: python check_install.py [--no-kernels] [EXTRA ...], with the installed extras among pyro
and numpyro, and --no-kernels if no kernels were compiled. Run it outside the source tree, by the
Python of the environment to check.
"""

import contextlib
import importlib
import importlib.metadata
import io
import sys
from pathlib import Path

EXTRAS = ("pyro", "numpyro")
BRINGS = {"pyro": "torch", "numpyro": "jax"}  # the facade of functions that an extra brings, too


def check(condition: bool, complaint: str) -> None:
    """Stop with the complaint if the condition is false."""
    if not condition:
        sys.exit(f"check_install: {complaint}")


def check_core() -> None:
    """Check that the core is in this environment, complete, and imports no framework."""
    import relaxed_dists

    site = Path(relaxed_dists.__file__).parents[1]
    check(Path(sys.prefix) in site.parents, f"relaxed_dists came from {site}, not {sys.prefix}")
    installed = importlib.metadata.version("relaxed-dists")
    check(relaxed_dists.__version__ == installed, f"{relaxed_dists.__version__} != {installed}")
    backends = [f"relaxed_dists_{name}" for pair in BRINGS.items() for name in pair]
    for package in ("relaxed_dists", *backends):
        check((site / package / "py.typed").is_file(), f"{package} has no py.typed")
    brought = {"torch", "pyro", "jax", "numpyro"} & set(sys.modules)
    check(not brought, f"relaxed_dists imported {brought}")


def check_present(extra: str) -> None:
    """Check that all public names of an extra's facade can be imported."""
    facade = importlib.import_module(f"relaxed_dists.{extra}")
    backend = importlib.import_module(f"relaxed_dists_{extra}")
    check(len(facade.__all__) > 0, f"relaxed_dists.{extra} has no public names")
    for name in facade.__all__:
        exec(f"from relaxed_dists.{extra} import {name}", {})
    check(Path(sys.prefix) in Path(backend.__file__).parents, f"{backend.__file__} is elsewhere")


def check_absent(extra: str) -> None:
    """Check that the facade of a missing extra raises an error that names the extra."""
    try:
        importlib.import_module(f"relaxed_dists.{extra}")
    except ModuleNotFoundError as error:
        check(f"relaxed-dists[{extra}]" in str(error), f"the error names no extra: {error}")
    else:
        check(False, f"relaxed_dists.{extra} imported without its extra")


def check_config(extras: list[str], way: str) -> None:
    """Check that show_config names the frameworks, and the way in which torch computes."""
    import relaxed_dists

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        relaxed_dists.show_config()
    print(printed.getvalue(), end="")
    lines = printed.getvalue().splitlines()
    for package, extra in (("torch", "pyro"), ("pyro-ppl", "pyro"), ("jax", "numpyro")):
        missing = f"{package} is not installed" in lines
        check(missing == (extra not in extras), f"show_config is wrong about {package}: {lines}")
    if "pyro" in extras:
        check(lines[-1].startswith(f"In torch: {way}"), f"got {lines[-1]!r}, expected {way}")


def main(extras: list[str]) -> None:
    """Run the checks."""
    way = "torch's operations" if "--no-kernels" in extras else "compiled kernels"
    extras = [extra for extra in extras if extra != "--no-kernels"]
    check(set(extras) <= set(EXTRAS), f"got the extras {extras}; expected some of {EXTRAS}")
    check_core()
    for extra in EXTRAS:
        for facade in (extra, BRINGS[extra]):
            (check_present if extra in extras else check_absent)(facade)
    check_config(extras, way)
    print(f"check_install: passed with extras {extras}")


if __name__ == "__main__":
    main(sys.argv[1:])
