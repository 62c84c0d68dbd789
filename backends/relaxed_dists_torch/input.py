"""Arguments as tensors of real numbers, and their common dtype."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relaxed_dists import _errors

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_REAL = FLOATING + _WHOLE


def real(x: Any, name: str, what: str, like: Any = None) -> Tensor | float:
    """x as a tensor on the device of ``like``; a Python number, which has no dtype, as a float."""
    if not isinstance(x, Tensor):
        device = like.device if isinstance(like, Tensor) else None
        try:
            # Not int | float, which torch.compile can't trace in torch 2.9.
            if isinstance(x, (int, float)):
                return float(x)
            # NumPy arrays are copied: torch refuses negative strides and warns of read-only arrays.
            x = torch.as_tensor(np.array(x) if hasattr(x, "__array__") else x, device=device)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise _errors.not_real(name, what, x) from error
    # A DTensor's class takes long to import.
    if type(x) is not Tensor and hasattr(x, "full_tensor"):
        raise _errors.distributed(name, what)
    if x.dtype not in _REAL:
        raise _errors.not_real(name, what, x)
    return x


def result_dtype(*given: Tensor | float) -> torch.dtype:
    """The dtype that torch.result_type gives, which torch.compile can't trace.

    For integers alone it is the default dtype.
    """
    kinds = {x.dtype for x in given if isinstance(x, Tensor)}
    if len(kinds) == 1 and (dtype := kinds.pop()) in FLOATING:
        return dtype  # the usual case
    floating = [x for x in given if isinstance(x, Tensor) and x.is_floating_point()]
    dtypes = {x.dtype for x in floating if x.dim()} or {x.dtype for x in floating}
    return functools.reduce(torch.promote_types, dtypes or {torch.get_default_dtype()})
