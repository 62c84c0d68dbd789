"""The search for sites that no gradient reaches: the parts that both backends share."""

import functools
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from relaxed_dists._distributions import formulas
from relaxed_dists._infer.sites import Sites
from relaxed_dists._ops import Array, Ops

MAX_MOVES = 16  # the most shifted values that are tried for one site
MAX_CHECKS = 8  # the most checks of functions with the same code, such as lambdas made in a loop
_passed: "weakref.WeakSet[Any]" = weakref.WeakSet()
_counts: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()


def once(fn: Any, check: Callable[[], bool]) -> None:
    """Run the check, unless it has passed for fn, or for MAX_CHECKS functions with fn's code."""
    fn = getattr(fn, "__func__", fn)  # each access of a method makes a new object
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = getattr(inner, "__code__", type(inner))
    try:
        if fn in _passed or _counts.get(code, 0) >= MAX_CHECKS:
            return
    except TypeError:  # fn is not hashable, or allows no weak references
        return
    if check():
        _passed.add(fn)
        _counts[code] = _counts.get(code, 0) + 1


def quietly(check: Callable[[], bool]) -> bool:
    """Run a check that calls a model once more; also true if that call raises an error.

    The check calls the model with other values than the model drew. So an error in that call shows
    nothing about the user's own call or about gradients.
    """
    try:
        return check()
    except (NoGradient, UserWarning):
        raise
    except Exception:
        return True


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore all warnings inside the block."""
    with warnings.catch_warnings():  # its argument ``action`` came with Python 3.11
        warnings.simplefilter("ignore")
        yield


def same(
    first: Sequence[Array], second: Sequence[Array], allclose: Callable[..., bool], atol: float
) -> bool:
    """Whether two runs gave the same numbers, in the same shapes."""
    return len(first) == len(second) and all(
        np.shape(x) == np.shape(y) and allclose(x, y, 1e-5, atol, equal_nan=True)
        for x, y in zip(first, second, strict=True)
    )


def moved(ops: Ops, value: Array, one_hot: bool, real: bool, soft: bool = False) -> Iterator[Array]:
    """Yield the value moved to other points of the support; a soft value also rounded to 0 and 1.

    Rounding is needed because a comparison of soft values with 1 is always false.

    Args:
        ops: The framework's operations.
        value: The value.
        one_hot: Whether the last axis holds categories.
        real: Whether the value is a log or a logit.
        soft: Whether to count a value as soft without a look at its numbers.
    """
    yield from _shifted(value, one_hot, real)
    if not real and (soft or bool(((value > 0) & (value < 1)).any())):
        corner = formulas.hard_argmax(ops, value) if one_hot else 0.0 * value + (value > 0.5)
        yield corner
        yield from _shifted(corner, one_hot, real)


def _shifted(value: Array, one_hot: bool, real: bool) -> Iterator[Array]:
    if one_hot:
        number = value.shape[-1]
        for shift in range(1, min(number, MAX_MOVES + 1)):
            yield value[..., [(i + shift) % number for i in range(number)]]
    else:
        yield -value if real else 1 - value


def with_gradient(sites: Sites, messages: Iterable[Any]) -> dict[str, Any]:
    """The latent sites, by name, whose values get a gradient from an estimator or a relaxation.

    Args:
        sites: The backend's module for distributions of sites.
        messages: The sites of the guide, and then those of the model.
    """
    drawn: dict[str, Any] = {}
    for msg in messages:
        if msg["type"] == "sample" and not msg["is_observed"]:
            drawn.setdefault(msg["name"], msg)
    return {k: m for k, m in drawn.items() if sites.kind(m["fn"]) in ("estimated", "relaxed")}


@contextmanager
def explain_index(name: str, sites: Callable[[], Collection[str] | None]) -> Iterator[None]:
    """Replace the error of a model that indexes by a soft value by an error with advice.

    Args:
        name: The public name of the class or function that runs the model, for the message.
        sites: Returns the sites whose values may be soft; or None, to leave the error as it is.
    """
    try:
        yield
    except (IndexError, TypeError) as error:
        # Parts of the messages of torch and of JAX.
        texts = ("used as indices must be", "Indexer must have integer")
        found = sites() if any(text in str(error) for text in texts) else None
        if found is None:
            raise
        whose = f"its sites {sorted(found)}" if found else "discrete sites"
        raise NoGradient(
            f"{name} got a model that indexes by floating numbers, as the values of {whose} are; "
            "expected it to multiply by them, since an index has no derivative. Write z @ table "
            "for table[z] with a one-hot z, and (1 - z) * table[0] + z * table[1] with a binary "
            "one. See docs/how-to/relaxable-models.md."
        ) from error


# The functions below make the errors and warnings of this module.


SMOOTHLY = (
    "Write z @ table for table[z.argmax(-1)], z[..., k] * a + (1 - z[..., k]) * b for "
    "where(z[..., k] == 1, a, b), and z itself for its rounding; or train a discrete guide by "
    "LeaveOneOut_ELBO, which needs no derivative. See docs/how-to/relaxable-models.md."
)


class NoGradient(ValueError):
    """The error about a discrete site that no gradient reaches."""


def no_gradient(name: str, site: str) -> NoGradient:
    """The error about a site whose value the model uses only in functions without a derivative."""
    return NoGradient(
        f"{name} got the site {site!r}, on whose value other densities depend, but none by a "
        "derivative, as after an argmax, a rounding, a comparison or an index: no gradient reaches "
        "it, so that it would not be trained; expected a model that is a smooth function of it. "
        f"{SMOOTHLY}"
    )


def zero_gradient(name: str, site: str) -> str:
    """The warning about a site if all derivatives with respect to its value are 0."""
    return (
        f"{name} got the site {site!r}, on whose value other densities depend, though all their "
        "derivatives by it are 0 at the values that were drawn, as after a rounding: if they are 0 "
        f"everywhere, no gradient reaches it, so that it is not trained. {SMOOTHLY}"
    )
