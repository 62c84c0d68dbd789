"""What the tests of subsets share: draws, and the sum over orders and sorting to compare with."""

import itertools
from collections.abc import Iterable
from typing import Any

import mpmath
import numpy as np

from harness import Backend


def orders(logits: np.ndarray, members: Iterable[int]) -> mpmath.mpf:
    """The probability of a set: that of its members one after the other, summed over orders."""
    w = [mpmath.exp(float(x)) for x in logits]
    total = mpmath.mpf(0)
    for order in itertools.permutations(members):
        p, left = mpmath.mpf(1), set(range(len(w)))
        for i in order:
            p *= w[i] / mpmath.fsum(w[j] for j in left)
            left.remove(i)
        total += p
    return total


def k_hot(scores: np.ndarray, k: int) -> np.ndarray:
    """The k largest of each row, by sorting."""
    return (scores >= np.sort(scores, -1)[..., -k, None]).astype(float)


def drawn(backend: Backend, law: Any, seed: int, shape: tuple[int, ...] = ()) -> np.ndarray:
    """A draw in NumPy. Of one shape as far as may be, for which JAX compiles it once."""
    return backend.numpy(backend.draw(law, seed, shape))
