"""What older versions of NumPyro do otherwise, and up to which version they do."""

from collections.abc import Callable
from typing import Any

import numpyro
from numpyro.distributions import constraints
from numpyro.handlers import seed

VERSION = tuple(int(number) for number in numpyro.__version__.split(".")[:2])

# Before 0.22, NumPyro checks no distribution unless it is told to. The distributions here check all
# the same, since the loss of a value that has lost its relaxed sample would be wrong.
DOES_NOT_VALIDATE = VERSION < (0, 22)


def seeded(fn: Any, key: Any) -> Callable[..., Any]:
    """A program with the same random numbers in each call, like those of ``seed`` from 0.18 on."""
    return lambda *args, **kwargs: seed(fn, key)(*args, **kwargs)


class _DiscreteIndependent(constraints.independent):
    is_discrete = True


def independent(support: Any, ndims: int) -> Any:
    """``constraints.independent``, which is never discrete in NumPyro 0.17 and 0.18."""
    made = constraints.independent(support, ndims)
    if support.is_discrete and not made.is_discrete:
        return _DiscreteIndependent(support, ndims)
    return made
