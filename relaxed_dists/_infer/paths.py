"""What both backends share of the look for sites that no gradient reaches."""

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from relaxed_dists._distributions import formulas
from relaxed_dists._ops import Array, Ops

MOST = 16  # moves of a site at most
OFTEN = 8  # times that functions of one code are looked at, such as one made anew in each call
_fine: "weakref.WeakSet[Any]" = weakref.WeakSet()
_often: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()


def once(fn: Any, check: Callable[[], bool]) -> None:
    """Look at a model; not any more, once its check says that it could be made."""
    fn = getattr(fn, "__func__", fn)  # of a bound method, which is a new object each time
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = getattr(inner, "__code__", type(inner))
    try:
        if fn in _fine or _often.get(code, 0) >= OFTEN:
            return
    except TypeError:  # it has no hash, or takes no weak reference
        return
    if check():
        _fine.add(fn)
        _often[code] = _often.get(code, 0) + 1


def quietly(check: Callable[[], bool]) -> bool:
    """Make a check that runs a model once more; true as well where the model can't be run for it.

    It is run with other values than those that it drew, and in place of a call by its user: what it
    raises here says nothing about that call, and nothing is known of its gradients.
    """
    try:
        return check()
    except (NoGradient, UserWarning):
        raise
    except Exception:
        return True


def moved(ops: Ops, value: Array, sort: str) -> Iterator[Array]:
    """A site's value at other places of its support, and of a soft one at the corners.

    At the corners, since a model that asks whether a value is 1 gets no soft one that is.

    Args:
        ops: The framework's operations.
        value: The value.
        sort: ``rows`` for points of the simplex, ``logs`` for logs of them, ``logit`` for real
            numbers, ``number`` for those in [0, 1].
    """
    yield from _shifted(value, sort)
    if sort in ("rows", "number") and bool(((value > 0) & (value < 1)).any()):
        zero = 0.0 * value
        corner = formulas.hardest(ops, value) if sort == "rows" else zero + (value > 0.5)
        yield corner
        yield from _shifted(corner, sort)


def _shifted(value: Array, sort: str) -> Iterator[Array]:
    if sort in ("rows", "logs"):
        number = value.shape[-1]
        for shift in range(1, min(number, MOST + 1)):
            yield value[..., [(i + shift) % number for i in range(number)]]
    else:
        yield -value if sort == "logit" else 1 - value


# The messages.


SMOOTHLY = (
    "Write z @ table for table[z.argmax(-1)], z[..., k] * a + (1 - z[..., k]) * b for "
    "where(z[..., k] == 1, a, b), and z itself for its rounding"
)


class NoGradient(ValueError):
    """A discrete site that no gradient reaches."""


def no_gradient(name: str, site: str) -> NoGradient:
    """A site whose value the model uses in steps only."""
    return NoGradient(
        f"{name} got the site {site!r}, on whose value other densities depend, but none by a "
        "derivative, as after an argmax, a rounding, a comparison or an index: no gradient reaches "
        "it, and it would stay as it is; expected a model that is a smooth function of it. "
        f"{SMOOTHLY}; or train a discrete guide by LeaveOneOut_ELBO, which needs no derivative."
    )


def zero_gradient(name: str, site: str) -> str:
    """The same where a derivative exists, but is 0."""
    return (
        f"{name} got the site {site!r}, on whose value other densities depend, though all their "
        "derivatives by it are 0 at the values that were drawn, as after a rounding: if they are 0 "
        f"everywhere, no gradient reaches it, and it stays as it is. {SMOOTHLY}; or train a "
        "discrete guide by LeaveOneOut_ELBO, which needs no derivative."
    )


def by_floats(error: Exception) -> bool:
    """Whether torch or JAX got floating numbers as an index."""
    text = str(error)
    return "used as indices must be" in text or "Indexer must have integer" in text


def indexed(name: str, sites: Sequence[str]) -> NoGradient:
    """A model that indexes by an array of floating numbers."""
    whose = f"its sites {list(sites)}" if sites else "discrete sites"
    return NoGradient(
        f"{name} got a model that indexes by floating numbers, as the values of {whose} are; "
        "expected it to multiply by them, since an index has no derivative. "
        "Write z @ table for table[z] with a one-hot z, and (1 - z) * table[0] + z * table[1] with "
        "a binary one."
    )
