"""The relaxed sample behind a value: a Python attribute, checked against the tensor's version.

A copy of the value loses the sample, and an in-place write is noticed. Later operations on the
value take no longer. A write through ``.data`` or NumPy does not change the version, and goes
unnoticed.
"""

import itertools
import sys
from typing import Any

import torch
from torch import Tensor

from relaxed_dists import _errors

from .state import unwrapped

_traces = itertools.count()


def version(value: Tensor) -> int:
    """How often a tensor was written to; 0 in inference mode, where torch does not count."""
    value = unwrapped(value)
    return 0 if value.is_inference() else value._version


def _version(value: Tensor) -> Any:
    # In inference mode there is no version: a copy of the numbers takes its place.
    return unwrapped(value).clone() if value.is_inference() else version(value)


def _same(numbers: Tensor, value: Tensor) -> Tensor:
    return ((numbers == value) | numbers.isnan()).all()


# torch.compile traces with tensors that have a version but no numbers. The next three functions run
# while it traces, and leave nothing in the compiled code.


def _note(context: Any) -> None:
    fake = context.get_local("value").as_fake()
    fake._version_when_drawn = _version(fake)


def _check(context: Any) -> None:
    fake = context.get_local("value").as_fake()
    if fake._version_when_drawn != _version(fake):
        raise ValueError(_errors.WRITTEN)


def _trace() -> int:
    """A number that is different for each piece of code that is compiled."""
    number: int = vars(torch._guards.TracingContext.get()).setdefault("_number", next(_traces))
    return number


# torch.compiler.assume_constant_result sets this too, but first imports the compiler (a second).
_trace._dynamo_marked_constant = True  # type: ignore[attr-defined]


def keep_relaxed(value: Tensor, sample: Any, space: str) -> Tensor:
    """Put the relaxed sample behind the value, in the named space, and return the value."""
    if torch.compiler.is_dynamo_compiling():
        torch._dynamo.comptime.comptime(_note)
        # The copy is used only if the value leaves the compiled code; else it is removed as dead.
        version, trace = value.detach().clone(), _trace()
    else:
        version, trace = _version(value), None
    value._relaxed_sample = (space, sample, version, trace)  # type: ignore[attr-defined]
    return value


def get_relaxed(value: Any, space: str) -> Any:
    """The relaxed sample behind the value, or None where it is lost or of another space."""
    if type(value).__name__ == "ProvenanceTensor":  # Pyro's TraceGraph_ELBO wraps values in it
        pyro = sys.modules[type(value).__module__]
        return pyro.track_provenance(get_relaxed(value._t, space), value._provenance)
    stored, sample, version, trace = getattr(value, "_relaxed_sample", ("", None, 0, None))
    if stored != space:
        return None
    if torch.compiler.is_dynamo_compiling():
        if trace == _trace():
            torch._dynamo.comptime.comptime(_check)
        elif isinstance(version, Tensor):  # from other compiled code
            torch._assert_async(_same(version, value), _errors.WRITTEN)
        else:
            return None  # a version recorded outside compiled code means nothing inside it
    elif isinstance(version, Tensor):
        if not _same(version, unwrapped(value)):
            return None
    elif version != _version(value):
        return None
    if isinstance(sample, Tensor) and sample.requires_grad and value.is_leaf:
        return sample.detach()  # the value was detached by detach_()
    return sample
