"""What older versions of NumPyro do otherwise, and up to which version they do."""

from collections.abc import Callable
from typing import Any

import numpyro
from numpyro.handlers import seed

VERSION = tuple(int(number) for number in numpyro.__version__.split(".")[:2])

# Before 0.22, NumPyro checks no distribution unless it is told to. The distributions here check all
# the same, since the loss of a value that has lost its relaxed sample would be wrong.
DOES_NOT_VALIDATE = VERSION < (0, 22)


def seeded(fn: Any, key: Any) -> Callable[..., Any]:
    """A program with the same random numbers in each call, like those of ``seed`` from 0.18 on."""
    return lambda *args, **kwargs: seed(fn, key)(*args, **kwargs)
