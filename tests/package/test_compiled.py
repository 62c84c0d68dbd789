"""The compiled kernels: how they are found, and the warning for an object that can't be loaded.

Each damaged or foreign object is a real file, beside a copy of the loader in a process of its own.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import relaxed_dists

pytest.importorskip("torch")
from relaxed_dists_torch.compiled import load

VERSION = (
    "int relaxed_dists_version(void) {{ return {}; }}"
    "const void *relaxed_dists_kernels(int level) {{ return 0; }}"
)
FOLDER = Path(load.__file__).parent
BUILD = runpy.run_path(str(FOLDER / "build.py"))
WARNING = (
    "RuntimeWarning: The compiled kernels {path} can't be loaded: {why}. The file is damaged, or "
    "it is not for this version of relaxed-dists or this machine ({machine}). torch's operations "
    "compute everything, more slowly. Install relaxed-dists again, or set "
    "RELAXED_DISTS_KERNELS=0 to do without the kernels."
)


def loaded(folder: Path, *options: str, **switch: str) -> subprocess.CompletedProcess[str]:
    """What a process prints that loads the kernels of a folder twice, and then their state."""
    shutil.copy(load.__file__, folder)
    environment = {k: v for k, v in os.environ.items() if k != load.SWITCH} | switch
    code = "import load, load; print(load.status(), load.KERNELS is None, sep='|')"
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def compiled(folder: Path, code: str, *options: str) -> Path:
    """A shared object made of a line of C, under the name of the kernels."""
    (folder / "code.c").write_text(code)
    path = folder / load.PATH.name
    compilers = BUILD["compilers"]("any" if options else "")
    if not compilers:
        pytest.skip("no compiler is installed")
    command = [*compilers[0], *options, "-shared", "-fPIC", "-o", str(path), "code.c"]
    subprocess.run(command, cwd=folder, check=True)
    return path


def empty(folder: Path) -> str:
    (folder / load.PATH.name).touch()
    return "file too short"


def text(folder: Path) -> str:
    (folder / load.PATH.name).write_text("no program at all\n" * 100)
    return "invalid ELF header"


def truncated(share: float) -> Callable[[Path], str]:
    def cut(folder: Path) -> str:
        whole = compiled(folder, f"int a[{2**14}] = {{1}};" + VERSION.format(load.VERSION))
        whole.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        return "the file is cut off"

    return cut


def foreign(folder: Path) -> str:
    """An object for another processor."""
    other = "x86_64" if "aarch64" in BUILD["this_machine"]() else "aarch64"
    compiled(folder, VERSION.format(load.VERSION), "-target", f"{other}-linux-musl", "-nostdlib")
    return "cannot open shared object file: No such file or directory"


def of_another_library(folder: Path) -> str:
    compiled(folder, "int other;")
    return "it has no kernels of relaxed-dists"


def of_another_version(folder: Path) -> str:
    compiled(folder, VERSION.format(load.VERSION + 1))
    return f"it has version {load.VERSION + 1} of the kernels, where {load.VERSION} is needed"


@pytest.mark.skipif(sys.platform != "linux", reason="the texts are those of Linux")
@pytest.mark.parametrize(
    "spoil",
    [
        *(empty, text, truncated(0.02), truncated(0.5), truncated(0.999)),
        *(foreign, of_another_library, of_another_version),
    ],
)
def test_a_spoiled_object_is_named_once(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    """One warning says which file it is, what is wrong with it and what to do."""
    why, path = spoil(tmp_path), tmp_path / load.PATH.name
    result = loaded(tmp_path)
    machine = f"{sys.platform}, {os.uname().machine}"
    assert result.stderr.count("Warning") == 1
    assert WARNING.format(path=path, why=why, machine=machine) in result.stderr
    assert result.stdout == f"torch's operations: {path} can't be loaded: {why}|True\n"
    assert loaded(tmp_path, "-W", "error", **{load.SWITCH: "0"}).returncode == 0


def test_a_missing_object_is_no_reason_to_warn(tmp_path: Path) -> None:
    """An installation without kernels is a whole one."""
    result = loaded(tmp_path, "-W", "error")
    path = tmp_path / load.PATH.name
    why = f"torch's operations: the package was built without kernels, no {path}"
    assert (result.stdout, result.stderr) == (f"{why}|True\n", "")


def test_the_switch_takes_0_1_or_triton(tmp_path: Path) -> None:
    """With 0, the kernels are off; another word is refused."""
    off = "torch's operations: RELAXED_DISTS_KERNELS=0 switches the compiled kernels off|True\n"
    assert loaded(tmp_path, **{load.SWITCH: "0"}).stdout == off
    assert loaded(tmp_path, **{load.SWITCH: "1"}).stdout == loaded(tmp_path).stdout
    refused = loaded(tmp_path, **{load.SWITCH: "off"}).stderr
    assert refused.endswith(
        "ValueError: The environment variable RELAXED_DISTS_KERNELS is 'off'. Set it to 1, the "
        "default, for the compiled kernels, to triton for kernels of Triton on a GPU too, or to 0 "
        "for torch's operations.\n"
    )


def test_triton_switched_on_is_named_or_missed(tmp_path: Path) -> None:
    """Without the package, one warning says what to do, and torch's operations compute."""
    usual = loaded(tmp_path).stdout
    (tmp_path / "triton.py").touch()
    found = loaded(tmp_path, **{load.SWITCH: "triton"})
    assert found.stdout == usual.replace("|", "; on a GPU, kernels of Triton|")
    assert found.stderr == ""
    (tmp_path / "triton.py").unlink()
    missed = loaded(tmp_path, "-S", **{load.SWITCH: "triton"})  # without installed packages
    assert missed.stderr.count("Warning") == 1
    assert (
        "RuntimeWarning: The environment variable RELAXED_DISTS_KERNELS is 'triton', but the "
        "package triton is not installed. torch's operations compute on a GPU. Install triton, or "
        "set RELAXED_DISTS_KERNELS=1."
    ) in missed.stderr
    assert missed.stdout == usual


def test_arguments_are_those_of_the_header() -> None:
    """Each kernel gets as many arguments as C declares, each of 64 bits."""
    header = (FOLDER / "kernels.h").read_text().replace("\\\n", " ")
    declared = {}
    for result, name, arguments in re.findall(r"X\((\w+), (\w+),\s*\((.*?)\)\)", header):
        given = arguments.split(",")
        assert result in ("void", "int64_t")
        assert all("*" in each or each.split()[0] in ("int64_t", "uint64_t") for each in given)
        declared[name] = len(given)
    assert list(declared.items()) == list(load.ARGUMENTS.items())
    levels = (FOLDER / "levels.c").read_text()
    assert levels.count("a[") == load.MOST + 1  # the kernel itself is the first


def test_show_config_says_how_torch_computes(capsys: pytest.CaptureFixture[str]) -> None:
    """The versions, and the way of this process."""
    relaxed_dists.show_config()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"Python {sys.version.split()[0]} on ")
    assert [line.split()[0] for line in printed[1:-1]] == [
        *("relaxed-dists", "numpy", "torch", "pyro-ppl", "jax", "numpyro")
    ]
    assert printed[-1] == f"In torch: {load.status()}"
