"""The array operations that each framework (torch or JAX) provides for the formulas."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    Array = Any  # each framework has its own
    ArrayLike = Any
else:  # names that signatures show

    class Array:
        """An array of the framework that computes a formula."""

        __module__ = "relaxed_dists"

    class ArrayLike:
        """What a framework makes an array from: a number, an array, or nested lists."""

        __module__ = "relaxed_dists"


class Ops(Protocol):
    """The array operations that the formulas need. Reductions are over the last axis."""

    kernels: dict[str, Callable[..., Any]]
    """Faster replacements of formulas, by the formulas' names: see ``formulas.hot``."""

    def exp(self, x: Array, /) -> Array: ...
    def log(self, x: Array, /) -> Array: ...
    def log1p(self, x: Array, /) -> Array: ...
    def expm1(self, x: Array, /) -> Array: ...
    def softplus(self, x: Array, /) -> Array: ...
    def sigmoid(self, x: Array, /) -> Array: ...
    def lgamma(self, x: Array, /) -> Array: ...
    def digamma(self, x: Array, /) -> Array: ...
    def log_softmax(self, x: Array, /) -> Array: ...
    def sum(self, x: Array, /) -> Array: ...
    def max(self, x: Array, /) -> Array: ...
    def stack(self, x: Array, y: Array, /) -> Array: ...
    def where(self, condition: Array, x: Array | float, y: Array | float, /) -> Array: ...
    def clip(self, x: Array, low: float, high: float, /) -> Array: ...
    def one_hot_argmax(self, x: Array, /) -> Array: ...
    def top(self, x: Array, k: int, /) -> Array:
        """1 at the k largest entries, 0 elsewhere."""

    def matching(self, x: Array, /) -> Array:
        """The permutation matrix that selects the entries of x with the largest sum.

        x has the shape ``(..., N, N)``.
        """

    def stop_gradient(self, x: Array, /) -> Array: ...
    def slope(self, logits: Array, p: Array, /) -> Array:
        """Zeros of p's shape, with derivative J(p) = diag(p) - p p^T with respect to the logits.

        A second derivative raises an error, since no function has the derivative J(p) if p is not
        softmax(logits).
        """


class QuadratureOps(Ops, Protocol):
    """The operations that integrals and loops need in addition to those of Ops."""

    def columns(self, x: Array, /) -> Array:
        """x of shape ``(..., K)`` with its last axis first; the others may be merged into one.

        A sum over the K entries then adds arrays, which is fast.
        """

    def rows(self, x: Array, like: Array, /) -> Array:
        """The inverse of ``columns``: the columns of x as vectors, in the shape of like."""

    def total(self, x: Array, /) -> Array:
        """The sum over the categories of ``columns``, whose axis is kept with length 1."""

    def constant(self, values: Any, like: Array, /) -> Array:
        """NumPy values as an array of like's dtype."""

    def is_double(self, x: Array, /) -> bool: ...
    def interpolate(self, tables: list[Array], position: Array, /) -> list[Array]:
        """The values of functions that are polynomials on intervals.

        A table has the shape ``(order, *rows, intervals)``. With i the integer nearest to the
        position, the table's function is the sum over p of table[p, *rows, i] (position - i)^p.
        The axes ``rows`` are absent, or broadcast with the position's leading axes. A position
        beyond the first or the last interval is moved to the centre of that interval.
        """

    def integrate(
        self, f: Callable[[Array], Sequence[Array]], points: Any, weights: Any, like: Array, /
    ) -> list[Array]:
        """sum_j weights_j f(points_j), for each of the arrays that f returns.

        f gets one point, or several on a new first axis, in like's dtype. For each point, an array
        that f returns is at most as large as like.
        """

    def dot(self, x: Array, y: Array, /) -> Array:
        """The product x y, summed over x's last axis and y's first axis, to full precision."""

    def scan(self, step: Callable[..., Any], start: Any, values: Any, number: int, /) -> Any:
        """jax.lax.scan: over values in reverse order, or, if values is None, ``number`` steps."""

    def sums(self, basis: Any, a: Array, v: Array, /) -> Array:
        """basis.sums(self, a, v), with derivatives that hold no term of the basis in memory.

        With the functions B_m and the matrix D of the basis, the derivative of B_m is
        sum_n D_mn B_n. The sums are sum_k v_k B_m(a_k), over the first axis of a and v.
        """

    def series(self, basis: Any, a: Array, c: Array, /) -> Array:
        """basis.series(self, a, c), with such derivatives: sum_m c_m B_m(a_k) for each a_k."""

    def with_gradient(
        self, function: Callable[..., list[Array | None]], *arguments: Array
    ) -> Array:
        """The function's value, with the gradients that the function itself computes.

        function(wanted, *arguments) returns the value, a number for each vector on the first
        argument's last axis, and then a gradient for each argument. ``wanted`` has a boolean for
        each argument. A gradient is None if its boolean is False, or if the value does not depend
        on the argument. The first gradient has the first argument's shape, the others the value's.
        """
