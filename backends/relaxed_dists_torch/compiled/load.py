"""The compiled kernels, loaded by ctypes, so that one library serves all versions of Python.

`KERNELS` has them by name, and is None where torch's operations compute everything.
"""

import ctypes
import importlib.util
import os
import platform
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION = 3  # the number in levels.c: a library with another number has other signatures
# An environment variable: "0" switches all kernels off, "triton" switches those for a GPU on.
SWITCH = "RELAXED_DISTS_KERNELS"
SUFFIX = {"win32": "dll", "darwin": "dylib"}.get(sys.platform, "so")
# Python would take a file with the name kernels.so for an extension module.
PATH = Path(__file__).with_name(f"kernels.cpu.{SUFFIX}")

# The kernels in the order of kernels.h, with their numbers of arguments.
ARGUMENTS = {
    "look": 3,
    "noise": 5,
    "logistic": 4,
    "draw": 13,
    "draw_back": 17,
    "density": 10,
    "density_back": 14,
    "mass": 7,
    "mass_back": 10,
    "binary_draw": 11,
    "binary_draw_back": 11,
    "binary_density": 9,
    "binary_density_back": 13,
}
MOST = max(ARGUMENTS.values())

Kernels = dict[str, Callable[..., Any]]


def _truncated(path: Path) -> bool:
    """Whether an ELF file ends before its last table does.

    Linux loads such a file all the same, and the process dies when it reads the missing part.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return False
    start, size, number = struct.unpack_from("<Q10xHH", head, 40)
    return path.stat().st_size < start + size * number


def _kernel(call: Callable[[bytes], int], pointer: int, number: int) -> Callable[..., int]:
    """A function of integers and addresses that calls a kernel with this number of arguments."""
    # The arguments are packed into bytes. To convert them one by one, ctypes would take longer than
    # a kernel takes for a short row.
    pack = struct.Struct(f"q{number}q{8 * (MOST - number)}x").pack
    return lambda *arguments: call(pack(pointer, *arguments))


def _open(path: Path) -> tuple[Kernels, str]:
    """The kernels of a shared object, and the level of instructions that it chose."""
    if _truncated(path):
        raise OSError("the file is cut off")
    library = ctypes.CDLL(str(path))
    try:
        version, table = library.relaxed_dists_version(), library.relaxed_dists_kernels
    except AttributeError:
        raise OSError("it has no kernels of relaxed-dists") from None
    if version != VERSION:
        raise OSError(f"it has version {version} of the kernels, where {VERSION} is needed")
    call = library.relaxed_dists_call
    table.restype, call.restype = ctypes.c_void_p, ctypes.c_int64
    # table(level) gives the kernels for the machine's level of x86-64, but at most of the given
    # level. On machines that aren't x86-64 it always gives the same kernels.
    tables = {level: table(level) for level in (2, 3, 4)}
    level = min(level for level in tables if tables[level] == tables[4])
    pointers = (ctypes.c_int64 * len(ARGUMENTS)).from_address(tables[4])
    kernels = {
        name: _kernel(call, pointer, number)
        for (name, number), pointer in zip(ARGUMENTS.items(), pointers, strict=True)
    }
    machine = platform.machine()
    return kernels, f"x86-64-v{level}" if machine in ("x86_64", "AMD64") else machine


def _load() -> tuple[Kernels | None, str]:
    """The kernels, or None if they can't be used; and the text that `status` returns."""
    switch = os.environ.get(SWITCH, "1")
    if switch not in ("0", "1", "triton"):
        raise ValueError(
            f"The environment variable {SWITCH} is {switch!r}. Set it to 1, the default, for the "
            "compiled kernels, to triton for kernels of Triton on a GPU too, or to 0 for torch's "
            "operations."
        )
    if switch == "0":
        return None, f"torch's operations: {SWITCH}=0 switches the compiled kernels off"
    if not PATH.exists():
        return None, f"torch's operations: the package was built without kernels, no {PATH}"
    try:
        kernels, level = _open(PATH)
    except OSError as error:
        why = f"{PATH} can't be loaded: {str(error).removeprefix(f'{PATH}: ')}"
        warnings.warn(
            f"The compiled kernels {why}. The file is damaged, or it is not for this version of "
            f"relaxed-dists or this machine ({sys.platform}, {platform.machine()}). torch's "
            f"operations compute everything, more slowly. Install relaxed-dists again, or set "
            f"{SWITCH}=0 to do without the kernels. See docs/install.md.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None, f"torch's operations: {why}"
    return kernels, f"compiled kernels: {PATH}, {level}"


def _by_triton() -> bool:
    """Whether Triton's kernels are switched on and the package is installed."""
    if os.environ.get(SWITCH) != "triton":
        return False
    if importlib.util.find_spec("triton"):
        return True
    warnings.warn(
        f"The environment variable {SWITCH} is 'triton', but the package triton is not installed. "
        f"torch's operations compute on a GPU. Install triton, or set {SWITCH}=1. "
        "See docs/install.md.",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


KERNELS, _STATUS = _load()
BY_TRITON = _by_triton()


def status() -> str:
    """Whether the compiled kernels or torch's operations compute, and why."""
    return f"{_STATUS}; on a GPU, kernels of Triton" if BY_TRITON else _STATUS
