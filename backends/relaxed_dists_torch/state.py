"""Questions about torch's state: whether it compiles, traces, maps, or has no numbers."""

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

_functorch, _tracing_state = torch._C._functorch, torch._C._get_tracing_state
_number_of_modes = torch._C._len_torch_dispatch_stack
_modes = torch._C._TorchDispatchModeKey
# The modes of FakeTensorMode, make_fx and AOTAutograd. Under other modes, such as a profiler's,
# tensors have numbers.
_SHAPES_ONLY = (_modes.FAKE, _modes.PROXY, _modes.FUNCTIONAL)


def compiling() -> bool:
    """Whether torch.compile or torch.export is tracing."""
    return torch.compiler.is_compiling()


def traced() -> bool:
    """Whether torch compiles, traces or computes with shapes alone, whatever the tensors are."""
    if torch.compiler.is_compiling() or _tracing_state():
        return True
    return _number_of_modes() > 0 and any(
        torch._C._get_dispatch_mode(mode) is not None for mode in _SHAPES_ONLY
    )


def known(x: Tensor) -> bool:
    """Whether the numbers can be looked at: not in traced, mapped, fake or meta tensors.

    A fake tensor has no numbers outside of its mode either.
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


def eager() -> bool:
    """Whether our autograd functions can be used: torch neither compiles nor traces.

    In forward mode they would need a formula for the jvp as well, which they don't have.
    """
    return not (traced() or forward_mode() or (transformed() and _functional()))


def _functional() -> bool:
    """Whether torch.func.functionalize is at work, which refuses our autograd functions."""
    kinds = [interpreter.key() for interpreter in _functorch.get_interpreter_stack() or ()]
    return _functorch.TransformType.Functionalize in kinds


def forward_mode() -> bool:
    """Whether derivatives are taken in forward mode."""
    return forward_ad._current_level >= 0


def transformed() -> bool:
    """Whether torch.func is at work.

    In its vmap, a mapped tensor can't be written in place into a tensor that isn't mapped.
    """
    return bool(torch._C._are_functorch_transforms_active())


def unwrapped(value: Tensor) -> Tensor:
    """The tensor of numbers inside those that torch.func wraps around it."""
    while _functorch.is_functorch_wrapped_tensor(value):
        value = _functorch.get_unwrapped(value)  # in vmap, writes count in the inner version only
    return value


def numbers(x: Tensor) -> np.ndarray:
    """The numbers of a tensor whose numbers are known, in double."""
    with torch._C._DisableFuncTorch():  # else torch.func.grad would wrap the results anew
        return unwrapped(x).detach().double().cpu().numpy()
