"""One of each distribution, with a batch, for what is asked of all of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import CASES, STRAIGHT_THROUGH
from harness import Backend

BATCH = (2,)
ROW = np.array([[0.3, -0.8, 1.1], [-0.4, 0.0, 0.9]])
BINARY = np.array([0.4, -1.3])
SCORES = np.array([[[0.1, 1.0], [-0.5, 0.3]], [[1.2, -0.2], [0.6, 0.0]]])
_HOT = [*(case.name for case in CASES if case.rows), STRAIGHT_THROUGH[0], "OneHotCategorical"]


def _estimated(names: Any, name: str, logits: Any) -> Any:
    return getattr(names, name)(logits=logits, estimator=names.GumbelSoftmax(0.7))


# From the public names and logits to the distribution; and whose logits it takes.
EVERY: dict[str, tuple[Callable[[Any, Any], Any], np.ndarray]] = {
    **{
        name: ((lambda names, x, name=name: getattr(names, name)(0.6, logits=x)), logits)
        for name, logits in [
            *((case.name, ROW if case.rows else BINARY) for case in CASES),
            (STRAIGHT_THROUGH[0], ROW),
            (STRAIGHT_THROUGH[1], BINARY),
            ("HardConcrete", BINARY),
            ("RelaxedPermutation", SCORES),
        ]
    },
    "OneHotCategorical": (lambda names, x: names.OneHotCategorical(logits=x), ROW),
    "Bernoulli": (lambda names, x: names.Bernoulli(logits=x), BINARY),
    "OneHotCategorical, estimated": (lambda n, x: _estimated(n, "OneHotCategorical", x), ROW),
    "Bernoulli, estimated": (lambda n, x: _estimated(n, "Bernoulli", x), BINARY),
    "Subset": (lambda names, x: names.Subset(2, logits=x), ROW),
    "RelaxedSubset": (lambda names, x: names.RelaxedSubset(0.6, 2, logits=x), ROW),
    "RelaxedSubset, hard": (lambda n, x: n.RelaxedSubset(0.6, 2, logits=x, hard=True), ROW),
    "Permutation": (lambda names, x: names.Permutation(logits=x), SCORES),
    "RelaxedPermutation, hard": (lambda n, x: n.RelaxedPermutation(0.6, x, hard=True), SCORES),
}
ONE_HOT = [name for name in EVERY if name.split(",")[0] in _HOT]
NO_RSAMPLE = {"OneHotCategorical", "Bernoulli", "Subset", "Permutation"}


def make(backend: Backend, name: str, dtype: str = "float64") -> Any:
    """The distribution of a name in the table."""
    build, logits = EVERY[name]
    return build(backend.names, backend.array(logits, dtype))
