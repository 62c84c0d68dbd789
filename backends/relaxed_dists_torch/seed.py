"""Seeds of noise: a kernel makes the noise from its seed, just where the kernel uses the noise."""

import threading
from typing import Any, NamedTuple

import torch
from torch import Size


class Seed(NamedTuple):
    """A seed, the shape of the noise, and the module whose kernels make the noise from the seed."""

    number: Any  # an integer, or a tensor of one in code that torch.compile makes
    shape: Size
    kernels: Any = None


# Each thread has a tensor for its seeds, since a new tensor would take as long as drawing a seed.
_local = threading.local()


def seed(shape: Size, key: torch.Generator | None, kernels: Any = None) -> Seed:
    """A new seed from torch's generator, or from a given one."""
    try:
        number = _local.number
    except AttributeError:
        with torch.inference_mode(False):  # outside that mode its tensors can't be written to
            number = _local.number = torch.zeros((), dtype=torch.int64, device="cpu")
    return Seed(number.random_(generator=key).item(), shape, kernels)
