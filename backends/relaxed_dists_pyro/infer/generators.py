"""The states of the random generators of torch, Python and NumPy."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch


def rng_state() -> dict[str, Any]:
    """The states of the random generators, as tensors, lists and numbers."""
    state: dict[str, Any] = pyro.util.get_rng_state()
    name, keys, *rest = state["numpy"]
    state["numpy"] = [name, keys.tolist(), *rest]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any], scratch: bool = False) -> None:
    """Set the random generators; if ``scratch``, set only new ones, to check the state."""
    # torch.load's map_location may have moved the states to a device, but set_state takes them only
    # on the CPU.
    (torch.Generator() if scratch else torch.default_generator).set_state(state["torch"].cpu())
    version, words, gauss = state["random"]
    (random.Random() if scratch else random).setstate((version, tuple(words), gauss))
    if "numpy" in state:
        (np.random.RandomState() if scratch else np.random).set_state(tuple(state["numpy"]))
    if "cuda" in state and torch.cuda.is_available() and not scratch:
        for i, numbers in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(numbers.cpu(), i)


@contextmanager
def same_noise(state: dict[str, Any]) -> Iterator[None]:
    """Set the random generators to a state, and restore them after the ``with`` block."""
    now = rng_state()
    set_rng_state(state)
    try:
        yield
    finally:
        set_rng_state(now)
