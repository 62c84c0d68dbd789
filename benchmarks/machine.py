"""The machine and the packages that the benchmarks run on."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def pin(threads: int) -> Callable[[], float]:
    """Run on so many processors from now on, the last ones; JAX has no other way to be told.

    Returns:
        The clock to take times with. On one processor it's that of the process, which other
        programs don't lengthen.
    """
    if not hasattr(os, "sched_setaffinity"):
        return time.perf_counter
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    return time.process_time if threads == 1 else time.perf_counter


def processor() -> str:
    """Its name, where the system tells it, and the number of its cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {len(models) or os.cpu_count()} cores"


def free_memory() -> int:
    """Its bytes; where the system doesn't tell what is free, of all."""
    pages = "AVPHYS" if "SC_AVPHYS_PAGES" in os.sysconf_names else "PHYS"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf(f"SC_{pages}_PAGES")


def versions(*packages: str) -> str:
    """The versions of these packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)
