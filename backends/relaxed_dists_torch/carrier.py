"""The sample behind a value: the relaxed sample from which the value's log density is computed.

The value is a tensor, and the sample is in a Python attribute of it. The attribute also has the
tensor's version, a counter that torch increases at each in-place write. After such a write the
sample does not belong to the numbers any more, and is not used. A write through ``.data``, NumPy or
a shallow copy does not change the version, so it is not noticed. ``copy``, pickle and files copy
the attribute too, but a copied tensor counts its writes from zero. So the attribute also has a
reference to its tensor, and is not used for any other one.
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
    """A reference to the drawn tensor, and its version; deep copies and files have neither."""

    def __init__(self, value: Tensor) -> None:
        self.tensor, self.version = weakref.ref(value), version(value)

    def unchanged(self, value: Tensor) -> bool:
        return self.tensor() is value and self.version == version(value)

    def __reduce__(self) -> Any:
        # A pickle has an empty OrderedDict in place of this object, since
        # torch.load(weights_only=True) refuses classes of this library.
        return OrderedDict, ()


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


# The next three functions tell whether a sample was drawn from these very parameters, which are
# unchanged since.


def _note_origin(context: Any) -> None:
    x, t, sample = (context.get_local(name).as_fake() for name in ("x", "t", "sample"))
    sample._origin = x, t, _version(x), _version(t)


_unchanged: list[bool] = []  # the answer of _check_origin, which can't return it to traced code


def _check_origin(context: Any) -> None:
    x, t, sample = (context.get_local(name).as_fake() for name in ("x", "t", "sample"))
    drawn: Any = getattr(sample, "_origin", None)
    same = drawn is not None and drawn[0] is x and drawn[1] is t
    _unchanged[:] = [same and drawn[2:] == (_version(x), _version(t))]


def _answer() -> bool:
    return _unchanged[0]


# torch.compile calls a function with this attribute once, while it traces, and takes the result for
# a constant. The decorator torch.compiler.assume_constant_result only sets the attribute, but first
# imports the compiler, which takes a second.
_trace._dynamo_marked_constant = True  # type: ignore[attr-defined]
_answer._dynamo_marked_constant = True  # type: ignore[attr-defined]


def note_origin(x: Tensor, t: Tensor, sample: Tensor) -> None:
    """While torch.compile traces, note the parameters that a sample was drawn from."""
    torch._dynamo.comptime.comptime(_note_origin)


def from_origin(x: Tensor, t: Tensor, sample: Tensor) -> bool:
    """Whether the code that torch.compile traces drew a sample from these, unchanged since."""
    torch._dynamo.comptime.comptime(_check_origin)
    return _answer()


# Before torch 2.8, torch.compile can't set an attribute of a tensor. Torch 2.8 and 2.9 miss writes
# of a number to a part of one, and 2.13 is the next version that was tried. Before it both
# functions break the graph and run as eager code, since they must read and note in the same mode.
_old = torch.__version__ < "2.13"
_untraced: Any = torch._compile._disable_dynamo if _old else lambda function: function


@_untraced
def keep_relaxed(value: Tensor, sample: Any, space: str) -> Tensor:
    """Keep the sample with the value, and return the value.

    ``space`` says what the sample is: "logit", for example, if it is the logit of the value.
    """
    version: Any
    if torch.compiler.is_dynamo_compiling():
        torch._dynamo.comptime.comptime(_note)
        # A copy of the numbers stands for the version. It is used only if the value leaves the
        # compiled code; otherwise the compiler removes the copy as dead code.
        version, trace = value.detach().clone(), _trace()
    else:
        version, trace = _version(value) if value.is_inference() else _Drawn(value), None
    value._relaxed_sample = (space, sample, version, trace)  # type: ignore[attr-defined]
    return value


@_untraced
def get_relaxed(value: Any, space: str) -> Any:
    """The sample kept with the value; None if there is none, or one of another space."""
    if type(value).__name__ == "ProvenanceTensor":  # Pyro's TraceGraph_ELBO wraps values in it
        pyro = sys.modules[type(value).__module__]
        return pyro.track_provenance(get_relaxed(value._t, space), value._provenance)
    stored, sample, version, trace = getattr(value, "_relaxed_sample", ("", None, 0, None))
    if stored != space:
        return None
    if torch.compiler.is_dynamo_compiling():
        if trace == _trace():
            torch._dynamo.comptime.comptime(_check)
        elif isinstance(version, Tensor):  # other compiled code has kept a copy of the numbers
            torch._assert_async(_same(version, value), _errors.WRITTEN)
        else:
            return None  # a version from outside can't be compared with one in compiled code
    elif isinstance(version, Tensor):
        if not _same(version, unwrapped(value)):
            return None
    elif not isinstance(version, _Drawn) or not version.unchanged(value):
        return None
    if isinstance(sample, Tensor) and sample.requires_grad and value.is_leaf:
        return sample.detach()  # the user has called value.detach_(): detach the sample too
    return sample
