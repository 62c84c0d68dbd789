"""Noise that is not drawn yet: compiled code makes it from a seed, just where it uses the noise."""

import threading
from typing import Any, NamedTuple

import torch
from torch import Size


class Seed(NamedTuple):
    """The seed of noise of a shape, and the module of kernels that make the noise."""

    number: int
    shape: Size
    kernels: Any = None


_local = threading.local()  # has a tensor of each thread: a new one for each seed takes as long


def seed(shape: Size, key: torch.Generator | None, kernels: Any = None) -> Seed:
    """A new seed from torch's generator, or from a given one."""
    try:
        number = _local.number
    except AttributeError:
        with torch.inference_mode(False):  # a tensor of this mode can't be written to outside it
            number = _local.number = torch.zeros((), dtype=torch.int64, device="cpu")
    return Seed(number.random_(generator=key).item(), shape, kernels)
