"""Run the tests with older and newer versions of Python and of the frameworks.

Each combination of versions gets a virtual environment with the dependencies in pyproject.toml. The
library's wheel is installed there as a user does it, which may change none of these packages. Then
the tests of this tree run. Tests of a framework that is missing there are skipped. Tests of the
documentation are left out: they run with the versions in constraints.txt.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tomllib

TREE = Path(__file__).parents[2]
JAX, BOTH = "numpyro,enumeration", "pyro,numpyro,enumeration"
LOWEST = "the lower bounds in pyproject.toml"
CUDA = "From PyPI on Linux, torch brings gigabytes of CUDA's libraries."


@dataclass(frozen=True)
class Combination:
    """Versions of Python and of packages, and the library's extras that are installed."""

    python: str
    extras: str
    pins: str  # empty for the newest versions
    warning: str = ""


COMBINATIONS = {
    "jax-lowest": Combination("3.10", JAX, LOWEST),
    "jax-0.5": Combination("3.11", JAX, "jax==0.5.3 numpyro==0.18.0 numpy==2.0.2 scipy==1.13.1"),
    "jax-0.7": Combination("3.12", JAX, "jax==0.7.2 numpyro==0.20.0 numpy==2.2.6 scipy==1.15.3"),
    "jax-newest": Combination("3.13", JAX, ""),
    "torch-lowest": Combination("3.10", "pyro", LOWEST, CUDA),
    "newest": Combination("3.13", BOTH, "", CUDA),
}
TOOLS = ["hypothesis", "mpmath", "optax", "pytest", "pytest-xdist", "rich"]

WHOLE = "tests/distributions tests/carrier tests/estimators tests/infer tests/devices tests/package"
# About two minutes on two cores.
QUICK = (
    "tests/distributions/test_laws.py tests/distributions/test_samples.py "
    "tests/distributions/test_own_density_jax.py tests/carrier/test_carrier_travel.py "
    "tests/carrier/test_carrier_handlers.py tests/estimators/test_unbiased.py "
    "tests/infer/test_discretize.py tests/infer/test_exact.py"
)
# What dependencies say of each other, or of Python.
WARNINGS = [
    # funsor hashes JAX's tracers, and expects the error of JAX 0.4.36 and later; 0.4.35 warns.
    *("-W", "ignore:unhashable type:FutureWarning"),
    # Since torch 2.14: by torch's own forward mode, and by Pyro's JitTrace_ELBO.
    *("-W", "ignore:`torch.jit.script` is deprecated:FutureWarning"),
    *("-W", "ignore:`torch.jit.trace` is deprecated:FutureWarning"),
    # Before Python 3.13.1, by torch.compile of 2.14.
    *("-W", "ignore:Guards may run slower on Python:RuntimeWarning"),
]


def bounds(extras: str) -> list[str]:
    """The dependencies in pyproject.toml, with those of extras."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    more = project["optional-dependencies"]
    return project["dependencies"] + [bound for extra in extras.split(",") for bound in more[extra]]


def interpreter(version: str) -> str:
    """The path of Python in this version: beside this one, as pyenv installs it, or on the PATH."""
    beside = Path(sys.base_prefix).parent
    installed = [str(path) for path in beside.glob(f"{version}.*/bin/python{version}")]
    found = installed[-1] if installed else shutil.which(f"python{version}")
    return found or sys.exit(f"Python {version} is missing: install it, or choose another NAME.")


def installed(pip: list[str]) -> set[str]:
    """The packages in an environment besides this library, with their versions."""
    command = [*pip, "list", "--format", "freeze"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line for line in found.splitlines() if not line.startswith("relaxed-dists")}


def passes(combination: Combination, place: Path, tests: list[str]) -> bool:
    """Make the environment of a combination in a folder, and run the tests there."""
    subprocess.run([interpreter(combination.python), "-m", "venv", place], check=True)
    python, pins, extras = str(place / "bin" / "python"), combination.pins, combination.extras
    pip = [python, "-m", "pip"]
    if pins == LOWEST:
        pins = " ".join(bounds(BOTH)).replace(">=", "==")
    (place / "pins.txt").write_text(pins.replace(" ", "\n"))
    install = [*pip, "install", "-q"]
    pinned = [*install, "-c", str(place / "pins.txt")]
    subprocess.run([*pinned, *TOOLS, *bounds(extras)], check=True)
    before = installed(pip)
    # Wheels of any machine have no kernels; the editable install after this one compiles them.
    build = [*pip, "wheel", "-q", "--no-deps", "-w", str(place / "wheel"), str(TREE)]
    subprocess.run(build, check=True, env=os.environ | {"RELAXED_DISTS_TARGET": "any"})
    (wheel,) = (place / "wheel").glob("*.whl")
    subprocess.run([*install, f"{wheel}[{extras}]"], check=True)
    if changed := installed(pip) ^ before:
        sys.exit(f"The wheel's installation changed {', '.join(sorted(changed))}.")
    subprocess.run([*install, "--no-deps", "-e", str(TREE)], check=True)
    shown = {"jax", "numpy", "numpyro", "pyro-ppl", "scipy", "torch"}
    print(*[x for x in sorted(before) if x.split("==")[0] in shown], sep="\n", flush=True)
    environment = {
        "OMP_NUM_THREADS": "1",  # the Makefile says why for these variables
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(place / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *WARNINGS, *tests]
    return subprocess.run(command, cwd=TREE, env=os.environ | environment).returncode == 0


def main() -> None:
    """Run the combinations that are named, or those of JAX."""
    names = "\n".join(
        f"  {name:13} Python {c.python}, {c.pins or 'the newest versions'}. {c.warning}"
        for name, c in COMBINATIONS.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=names
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run, all of JAX if none")
    parser.add_argument("--quick", action="store_true", help="a few files, in two minutes")
    parser.add_argument("--tests", help="arguments of pytest, such as '-k svi tests/infer'")
    parser.add_argument("--folder", type=Path, help="keep the environments in this folder")
    options = parser.parse_args()
    chosen = options.names or [name for name, c in COMBINATIONS.items() if c.extras == JAX]
    if unknown := set(chosen) - set(COMBINATIONS):
        parser.error(f"got {', '.join(sorted(unknown))}; expected {', '.join(COMBINATIONS)}")
    tests = shlex.split(options.tests or (QUICK if options.quick else WHOLE))
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen:
            print(f"== {name}", flush=True)
            if not passes(COMBINATIONS[name], (options.folder or Path(temporary)) / name, tests):
                failed.append(name)
    sys.exit(f"Failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
