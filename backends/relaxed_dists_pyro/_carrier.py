"""The relaxed sample behind a value: a Python attribute, checked against the tensor's version.

A copy loses it and an in-place write is noticed; no operation downstream pays for it.
"""

from typing import Any

import torch
from torch import Tensor


def _version(value: Tensor) -> int:
    # The compiler knows no versions (a value that crosses its boundary is therefore lost), nor do
    # inference tensors: there an in-place write to a fresh value goes unnoticed.
    if torch.compiler.is_compiling():
        return -2
    if value.is_inference():
        return -1
    return value._version


def attach(value: Tensor, behind: Any, space: str) -> Tensor:
    """Put the relaxed sample behind the value, in the named space, and return the value."""
    value._relaxed_sample = (space, behind, _version(value))  # type: ignore[attr-defined]
    return value


def behind(value: Any, space: str) -> Any:
    """The relaxed sample behind the value, or None where it is lost or of another space."""
    kept, sample, version = getattr(value, "_relaxed_sample", ("", None, 0))
    return sample if kept == space and version == _version(value) else None
