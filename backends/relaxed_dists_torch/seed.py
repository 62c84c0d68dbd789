"""Noise that is not drawn yet: a kernel makes it from the seed while it computes with it."""

from typing import NamedTuple

import torch
from torch import Size


class Seed(NamedTuple):
    """The seed of noise of a shape."""

    number: int
    shape: Size


def seed(shape: Size, key: torch.Generator | None) -> Seed:
    """A new seed from torch's generator, or from a given one."""
    number = torch.empty((), dtype=torch.int64, device="cpu").random_(generator=key)
    return Seed(int(number), shape)
