"""Shared by the tests of subsets: draws, and sums over orders and sorting to compare with."""

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


def drawn(backend: Backend, d: Any, seed: int, shape: tuple[int, ...] = ()) -> np.ndarray:
    """A draw in NumPy. Ask for one shape where you can: JAX compiles each shape anew."""
    return backend.numpy(backend.draw(d, seed, shape))
