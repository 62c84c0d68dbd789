"""The compiled kernels, loaded once by ctypes: one shared object serves all versions of Python.

:data:`KERNELS` has them by name, and is None where torch's operations compute everything.
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

VERSION = 2  # of levels.c: another version has other signatures
SWITCH = "RELAXED_DISTS_KERNELS"  # "0" switches the kernels off, "triton" those for a GPU on
SUFFIX = {"win32": "dll", "darwin": "dylib"}.get(sys.platform, "so")
# Python would take a file kernels.so for a module of its own.
PATH = Path(__file__).with_name(f"kernels.cpu.{SUFFIX}")

_P, _I, _U = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64
# The result and the arguments of each kernel, in the order of kernels.h.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "look": (_I, _P, _I, _I),
    "noise": (None, _U, _P, _I, _I, _I),
    "logistic": (None, _U, _P, _I, _I),
    "draw": (_I, _U, _P, _P, _I, _P, _I, _P, _P, _P, _I, _I, _I, _I),
    "draw_back": (None, _P, _P, _P, _I, _P, _I, _I, _P, _I, _I, _P, _P, _I, _I, _I),
    "density": (None, _P, _I, _P, _I, _P, _P, _I, _I, _I, _I),
    "density_back": (None, _P, _I, _P, _I, _P, _P, _I, _P, _P, _P, _I, _I, _I, _I),
    "mass": (_I, _P, _I, _P, _P, _I, _I, _I),
    "mass_back": (None, _P, _I, _P, _P, _I, _P, _P, _I, _I, _I),
    "binary_draw": (None, _U, _P, _P, _I, _P, _I, _P, _P, _I, _I, _I),
    "binary_draw_back": (None, _P, _P, _I, _P, _I, _P, _I, _P, _P, _I, _I),
    "binary_density": (None, _P, _I, _P, _I, _P, _P, _I, _I, _I),
    "binary_density_back": (None, _P, _I, _P, _I, _P, _P, _I, _P, _P, _P, _I, _I, _I),
}

Kernels = dict[str, Callable[..., Any]]


def _truncated(path: Path) -> bool:
    """Whether an ELF file ends before its last table does.

    Linux maps such a file all the same, and the process dies when it reads what is missing.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return False
    start, size, number = struct.unpack_from("<Q10xHH", head, 40)
    return path.stat().st_size < start + size * number


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
    table.restype = ctypes.c_void_p
    # At most this level of x86-64; on other machines all are the same table.
    tables = {level: table(level) for level in (2, 3, 4)}
    level = min(level for level in tables if tables[level] == tables[4])
    pointers = (ctypes.c_void_p * len(SIGNATURES)).from_address(tables[4])
    kernels: Kernels = {
        name: ctypes.CFUNCTYPE(*signature)(pointer)
        for (name, signature), pointer in zip(SIGNATURES.items(), pointers, strict=True)
    }
    machine = platform.machine()
    return kernels, f"x86-64-v{level}" if machine in ("x86_64", "AMD64") else machine


def _load() -> tuple[Kernels | None, str]:
    """The kernels, or None, and what :func:`status` says."""
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
            f"{SWITCH}=0 to do without the kernels.",
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
        f"torch's operations compute on a GPU. Install triton, or set {SWITCH}=1.",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


KERNELS, _STATUS = _load()
BY_TRITON = _by_triton()


def status() -> str:
    """Which way computes, the compiled kernels or torch's operations, and why."""
    return f"{_STATUS}; on a GPU, kernels of Triton" if BY_TRITON else _STATUS
