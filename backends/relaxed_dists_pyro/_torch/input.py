"""What is given: arrays of real numbers, their common dtype, and whether they can be looked at."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relaxed_dists import _errors

_FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_functorch, _tracing_state = torch._C._functorch, torch._C._get_tracing_state
_number_of_modes = torch._C._len_torch_dispatch_stack
_modes = torch._C._TorchDispatchModeKey
# The modes of FakeTensorMode, make_fx and AOTAutograd. Others, such as a profiler's, see numbers.
_SHAPES_ONLY = (_modes.FAKE, _modes.PROXY, _modes.FUNCTIONAL)
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def traced() -> bool:
    """Whether torch compiles, traces or computes with shapes alone, whatever it is given."""
    if torch.compiler.is_compiling() or _tracing_state():
        return True
    return _number_of_modes() > 0 and any(
        torch._C._get_dispatch_mode(mode) is not None for mode in _SHAPES_ONLY
    )


def known(x: Tensor) -> bool:
    """Whether the numbers can be looked at: not where they are traced, or mapped, or none at all.

    Tensors on the device "meta" and fake ones, also outside of their mode, have shapes alone.
    """
    if traced():
        return False
    while _functorch.is_gradtrackingtensor(x):  # vmap of grad wraps twice
        x = _functorch.get_unwrapped(x)
    fake = type(x) is not Tensor and hasattr(x, "fake_mode")
    return not (fake or x.is_meta or _functorch.is_batchedtensor(x))


def holds(condition: Tensor) -> bool:
    """Whether all of a condition is true; true where it can't be known."""
    return not known(condition) or bool(condition.all())


def real(x: Any, name: str, what: str, like: Any = None) -> Tensor | float:
    """x as a tensor on like's device, or a Python float, which has no dtype of its own."""
    if not isinstance(x, Tensor):
        device = like.device if isinstance(like, Tensor) else None
        try:
            if isinstance(x, int | float):
                return float(x)
            # A copy: torch takes no negative strides, and warns of arrays that it can't write to.
            x = torch.as_tensor(np.array(x) if hasattr(x, "__array__") else x, device=device)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise _errors.not_real(name, what, x) from error
    if x.dtype not in _FLOATING + _WHOLE:
        raise _errors.not_real(name, what, x)
    return x


def result_dtype(*given: Tensor | float) -> torch.dtype:
    """That of torch.result_type, which can't be compiled; the default one for integers alone."""
    floating = [x for x in given if isinstance(x, Tensor) and x.is_floating_point()]
    dtypes = {x.dtype for x in floating if x.dim()} or {x.dtype for x in floating}
    return functools.reduce(torch.promote_types, dtypes or {torch.get_default_dtype()})
