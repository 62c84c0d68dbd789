"""The machine and the packages that the benchmarks run on."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def pin(threads: int) -> Callable[[], float]:
    """Bind the process to the last `threads` processors, since JAX has no setting for threads.

    Returns:
        The clock to use. With one thread it is the process's CPU time, which other programs don't
            lengthen.
    """
    if not hasattr(os, "sched_setaffinity"):
        return time.perf_counter
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    return time.process_time if threads == 1 else time.perf_counter


def processor() -> str:
    """The processor's name, if the system reports it, and the number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {len(models) or os.cpu_count()} cores"


def free_memory() -> int:
    """The bytes of free memory, or of all memory if the system doesn't report the free part."""
    pages = "AVPHYS" if "SC_AVPHYS_PAGES" in os.sysconf_names else "PHYS"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf(f"SC_{pages}_PAGES")


def versions(*packages: str) -> str:
    """The versions of Python and of the packages, or "no" where a package is not installed."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)
