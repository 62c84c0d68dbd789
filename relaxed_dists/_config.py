"""A report of installed packages, and of torch's kernels."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("relaxed-dists", "numpy", "torch", "pyro-ppl", "jax", "numpyro")


def show_config() -> None:
    """Print the versions of the packages, and whether torch uses the compiled kernels.

    The kernels are this library's C code for draws and densities. If torch does not use them, the
    last line says why. The function imports torch, and no other framework.

    Example:
        >>> import relaxed_dists
        >>> relaxed_dists.show_config()  # doctest: +ELLIPSIS
        Python 3...
        relaxed-dists ...
        numpy ...
    """
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        print(f"{package} {_installed(package) or 'is not installed'}")
    if _installed("torch"):
        from relaxed_dists_torch.compiled import load

        print(f"In torch: {load.status()}")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
