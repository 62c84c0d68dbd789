"""What is installed, and how torch computes."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("relaxed-dists", "numpy", "torch", "pyro-ppl", "jax", "numpyro")


def show_config() -> None:
    """Print the versions of what computes, and whether torch uses the compiled kernels.

    The kernels are this library's C code for draws and densities. A framework that is not installed
    is named as such, and only torch is imported. Where the kernels are not in use, the last line
    says why.

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
