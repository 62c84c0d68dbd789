"""torch's state: whether it compiles, traces or transforms, and whether a tensor has numbers."""

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

_functorch, _tracing_state = torch._C._functorch, torch._C._get_tracing_state
_number_of_modes = torch._C._len_torch_dispatch_stack
_transformed = torch._C._are_functorch_transforms_active
_modes = torch._C._TorchDispatchModeKey
# The dispatch modes of FakeTensorMode, make_fx and AOTAutograd, under which tensors may have no
# numbers. Under other modes, such as a profiler's, tensors have numbers.
_SHAPES_ONLY = (_modes.FAKE, _modes.PROXY, _modes.FUNCTIONAL)


def compiling() -> bool:
    """Whether torch.compile or torch.export is tracing."""
    return torch.compiler.is_compiling()


def exporting() -> bool:
    """Whether torch.export is tracing."""
    if hasattr(torch.compiler, "is_exporting"):
        return torch.compiler.is_exporting()
    translator = torch._dynamo.symbolic_convert.InstructionTranslator  # torch before 2.7
    return bool(translator.current_tx().export)


# torch.compile calls such a function while it traces, and takes the result as a constant.
exporting._dynamo_marked_constant = True  # type: ignore[attr-defined]


def traced() -> bool:
    """Whether torch compiles, traces or computes with shapes alone: no tensor has numbers then."""
    if torch.compiler.is_compiling() or _tracing_state():
        return True
    return _number_of_modes() > 0 and any(
        torch._C._get_dispatch_mode(mode) is not None for mode in _SHAPES_ONLY
    )


def known(x: Tensor) -> bool:
    """Whether a tensor's numbers can be read; not if it is traced, fake, meta, or mapped by vmap.

    A fake tensor has no numbers even after its FakeTensorMode has ended.
    """
    if traced():
        return False
    while _functorch.is_gradtrackingtensor(x):  # vmap's wrapper may be inside that of grad
        x = _functorch.get_unwrapped(x)
    fake = type(x) is not Tensor and hasattr(x, "fake_mode")
    return not (fake or x.is_meta or _functorch.is_batchedtensor(x))


def holds(condition: Tensor) -> bool:
    """Whether a condition is true everywhere; True if its numbers aren't known."""
    return not known(condition) or bool(condition.all())


def eager() -> bool:
    """Whether this library's autograd Functions can be used.

    They can't if torch compiles or traces; nor in forward mode, since most have no jvp; nor in
    torch.func.functionalize, which refuses them.
    """
    # Each draw and each density calls this function, so it calls as few others as possible.
    if torch.compiler.is_compiling() or _tracing_state() or forward_ad._current_level >= 0:
        return False
    if _number_of_modes() and traced():
        return False
    return not (_transformed() and _functional())


def _functional() -> bool:
    """Whether torch.func.functionalize is active, which refuses custom autograd Functions."""
    kinds = [interpreter.key() for interpreter in _functorch.get_interpreter_stack() or ()]
    return _functorch.TransformType.Functionalize in kinds


def forward_mode() -> bool:
    """Whether torch computes derivatives in forward mode."""
    return forward_ad._current_level >= 0


def transformed() -> bool:
    """Whether a transform of torch.func is active, such as grad or vmap.

    In-place writes may fail then: vmap can't write a mapped tensor into one that isn't mapped.
    """
    return bool(_transformed())


def unwrapped(value: Tensor) -> Tensor:
    """The tensor inside the wrappers of torch.func's transforms."""
    while _functorch.is_functorch_wrapped_tensor(value):
        value = _functorch.get_unwrapped(value)  # in vmap, writes count in the inner version
    return value


def numbers(x: Tensor) -> np.ndarray:
    """The numbers of a tensor, which must be ``known``, as a NumPy array in double."""
    with torch._C._DisableFuncTorch():  # else torch.func.grad would wrap each result again
        return unwrapped(x).detach().double().cpu().numpy()
