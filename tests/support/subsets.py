"""Helpers of the subsets' tests: draws, and expected values by sums over orders and by sorting."""

import itertools
from collections.abc import Iterable
from typing import Any

import mpmath
import numpy as np

from harness import Backend


def orders(logits: np.ndarray, members: Iterable[int]) -> mpmath.mpf:
    """The probability of a set, summed over the orders in which its members may be drawn."""
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
    """The k-hot vector of each row's k largest scores, by sorting."""
    return (scores >= np.sort(scores, -1)[..., -k, None]).astype(float)


def drawn(backend: Backend, d: Any, seed: int, shape: tuple[int, ...] = ()) -> np.ndarray:
    """A draw in NumPy. Ask for one shape where you can: JAX compiles each shape anew."""
    return backend.numpy(backend.draw(d, seed, shape))
