"""The sample behind a value: the relaxed sample from which the log density is computed.

The sample is a Python attribute of the value's tensor. Beside the sample the attribute has the
tensor's version, a counter that torch increases at each in-place write: after such a write the
sample is not used. A write through ``.data``, NumPy or a shallow copy does not change the version,
so it is not noticed. ``copy``, pickle and files copy the attribute too, but a copy counts its own
writes anew: so the attribute also says which tensor it belongs to, and is not used for another one.
"""

import itertools
import sys
import weakref
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from relaxed_dists import _errors

from .state import unwrapped

_traces = itertools.count()
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


def version(value: Tensor) -> int:
    """torch's counter of in-place writes to a tensor; 0 for inference tensors, which have none."""
    if _is_wrapped(value):
        value = unwrapped(value)
    return 0 if value.is_inference() else value._version


def _version(value: Tensor) -> Any:
    # An inference tensor has no version: a copy of its numbers is compared instead.
    return unwrapped(value).clone() if value.is_inference() else version(value)


class _Drawn:
    """The very tensor that was drawn, with its version; deep copies and files lack both."""

    def __init__(self, value: Tensor) -> None:
        self.tensor, self.version = weakref.ref(value), version(value)

    def unchanged(self, value: Tensor) -> bool:
        return self.tensor() is value and self.version == version(value)

    def __reduce__(self) -> Any:
        return OrderedDict, ()  # torch.load(weights_only=True) reads no class of this library


def _same(numbers: Tensor, value: Tensor) -> Tensor:
    return ((numbers == value) | numbers.isnan()).all()


# torch.compile traces with fake tensors, which have a version but no numbers. The next three
# functions run only while torch.compile traces, and leave nothing in the compiled code.


def _note(context: Any) -> None:
    fake = context.get_local("value").as_fake()
    fake._version_when_drawn = _version(fake)


def _check(context: Any) -> None:
    fake = context.get_local("value").as_fake()
    if fake._version_when_drawn != _version(fake):
        raise ValueError(_errors.WRITTEN)


def _trace() -> int:
    """A number that identifies the code that is being compiled: each compilation has its own."""
    number: int = vars(torch._guards.TracingContext.get()).setdefault("_number", next(_traces))
    return number


# The decorator torch.compiler.assume_constant_result sets this attribute too. But the decorator
# first imports the compiler, which takes a second.
_trace._dynamo_marked_constant = True  # type: ignore[attr-defined]


def keep_relaxed(value: Tensor, sample: Any, space: str) -> Tensor:
    """Keep the sample behind the value, with the name of the sample's space; return the value."""
    version: Any
    if torch.compiler.is_dynamo_compiling():
        torch._dynamo.comptime.comptime(_note)
        # The copy is used only if the value leaves the compiled code. Else the compiler removes the
        # copy as dead code.
        version, trace = value.detach().clone(), _trace()
    else:
        version, trace = _version(value) if value.is_inference() else _Drawn(value), None
    value._relaxed_sample = (space, sample, version, trace)  # type: ignore[attr-defined]
    return value


def get_relaxed(value: Any, space: str) -> Any:
    """The sample behind the value; None if the value has none, or one of another space."""
    if type(value).__name__ == "ProvenanceTensor":  # Pyro's TraceGraph_ELBO wraps values in it
        pyro = sys.modules[type(value).__module__]
        return pyro.track_provenance(get_relaxed(value._t, space), value._provenance)
    stored, sample, version, trace = getattr(value, "_relaxed_sample", ("", None, 0, None))
    if stored != space:
        return None
    if torch.compiler.is_dynamo_compiling():
        if trace == _trace():
            torch._dynamo.comptime.comptime(_check)
        elif isinstance(version, Tensor):  # a copy of the numbers, from other compiled code
            torch._assert_async(_same(version, value), _errors.WRITTEN)
        else:
            return None  # versions outside compiled code are not comparable with those inside
    elif isinstance(version, Tensor):
        if not _same(version, unwrapped(value)):
            return None
    elif not isinstance(version, _Drawn) or not version.unchanged(value):
        return None
    if isinstance(sample, Tensor) and sample.requires_grad and value.is_leaf:
        return sample.detach()  # detach_() has detached the value, so its sample is detached too
    return sample
