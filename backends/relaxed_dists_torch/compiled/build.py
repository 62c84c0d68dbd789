"""Compile the kernels: ``python build.py`` writes the shared object beside the sources.

The package's build hook, ``make`` and the sanitizers' run share this file, which is run by its path
and needs nothing but Python. Any compiler that takes gcc's options will do; the PyPI package
ziglang is one that compiles for other machines, too.
"""

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
# Infinities and NaN have their meaning in the kernels, so -ffast-math must never be one of these
# options. With -fno-math-errno and the next two, compilers can vectorise divisions and conditions.
OPTIONS = shlex.split(
    "-O3 -g0 -std=gnu11 -fPIC -fvisibility=hidden -fopenmp-simd "
    "-fno-math-errno -fno-trapping-math -fno-signed-zeros"
)
# The machines for which `make build` makes wheels, and zig's names for them. glibc 2.17 and macOS
# 11 are the oldest versions on which Python 3.11 and NumPy run.
TARGETS = {
    "linux-x86_64": "x86_64-linux-gnu.2.17",
    "linux-aarch64": "aarch64-linux-gnu.2.17",
    "macos-arm64": "aarch64-macos.11.0",
    "windows-x86_64": "x86_64-windows-gnu",
}


class CannotCompile(Exception):
    """There is no compiler, or none that compiles the kernels."""


def this_machine() -> str:
    """The name of this machine's system and processor, in the form of the keys of ``TARGETS``."""
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    return f"{system}-{platform.machine().replace('AMD64', 'x86_64')}"


def compilers(target: str) -> list[list[str]]:
    """The compilers to try in turn; if a target is named, only zig, which compiles for others."""
    names = [] if target else [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    found = [shlex.split(name) for name in names if name and shutil.which(shlex.split(name)[0])]
    if importlib.util.find_spec("ziglang"):
        found.append([sys.executable, "-m", "ziglang", "cc"])
    return found


def commands(
    compiler: Sequence[str], target: str, into: Path, options: Sequence[str] = ()
) -> list[list[str]]:
    """The commands that compile the kernels, once for each instruction set, and link them."""
    system, machine = (target or this_machine()).split("-", 1)
    zig = "ziglang" in compiler
    start = [*compiler, *OPTIONS, *options]
    if target:
        start += ["-target", TARGETS[target]]
    if zig and not options:  # zig's default makes undefined behaviour a trap
        start += ["-fno-sanitize=undefined"]
    if system == "windows":  # where all code is position-independent
        start.remove("-fPIC")
    if system == "macos" and not zig:
        start += ["-mmacosx-version-min=11.0"]
    oldest = ["-mcpu=baseline"] if zig else []  # zig's default is the processor it runs on
    levels = {"base": oldest}
    if machine == "x86_64":
        march = "-mcpu=x86_64_" if zig else "-march=x86-64-"
        levels = {level: [f"{march}{level}"] for level in ("v2", "v3", "v4")}
        # clang's code is fastest with vectors of 512 bits everywhere, that of gcc only in the
        # functions marked WIDE in kernels.c.
        clang = zig or "clang" in compiler[0]
        levels["v4"] += [f"-mprefer-vector-width={512 if clang else 256}"]
    jobs = {level: ["kernels.c", f"-DLEVEL={level}", *more] for level, more in levels.items()}
    jobs["levels"] = ["levels.c", *oldest]
    made = [
        [*start, *more, "-c", str(FOLDER / source), "-o", str(into / f"{name}.o")]
        for name, (source, *more) in jobs.items()
    ]
    suffix = {"macos": "dylib", "windows": "dll"}.get(system, "so")
    name = f"kernels.cpu.{suffix}"
    link = [*start, "-shared", *(command[-1] for command in made), "-lm"]
    if system == "macos":  # its linker would otherwise write the folder's path into the library
        link += ["-install_name", f"@rpath/{name}"]
    return [*made, [*link, "-o", str(into / name)]]


def compile_kernels(into: Path, target: str = "") -> Path:
    """Compile the kernels for this machine or for a target; return the shared object.

    Args:
        into: The folder to write it to.
        target: A key of ``TARGETS``, or "" for this machine.

    Raises:
        CannotCompile: If no compiler succeeds. The message has the output of each compiler.
    """
    if sys.maxsize < 2**32:
        raise CannotCompile("Python has 32 bits here, and the compilers may have 64")
    for old in into.glob("kernels.cpu.*"):  # removed, not overwritten, since a process may use it
        old.unlink()
    said = []
    for compiler in compilers(target):
        with tempfile.TemporaryDirectory() as folder:
            for command in commands(compiler, target, Path(folder)):
                result = subprocess.run(command, capture_output=True, text=True, check=False)
                if result.returncode:
                    said.append(f"{shlex.join(command)}\n{result.stderr}")
                    break
            else:
                return Path(shutil.copy(command[-1], into))
    raise CannotCompile("\n".join(said) or "there is no cc, gcc or clang, and no ziglang")


def platform_tag(shared: Path, target: str = "") -> str:
    """The wheel's platform tag; on Linux it names the oldest glibc that has all needed symbols."""
    system, machine = (target or this_machine()).split("-", 1)
    needed = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", shared.read_bytes())]
    if system == "linux" and needed:
        return f"manylinux_2_{max(17, *needed)}_{machine}"
    if system == "macos":
        return f"macosx_11_0_{machine}"
    if target == "windows-x86_64":
        return "win_amd64"
    return re.sub("[-.]", "_", sysconfig.get_platform())


if __name__ == "__main__":
    try:
        print(compile_kernels(FOLDER))
    except CannotCompile as error:
        sys.exit(f"relaxed-dists: the kernels can't be compiled: {error}")
