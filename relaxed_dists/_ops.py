"""The array operations that a framework gives to the formulas."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Array = Any  # of the framework whose operations are passed in


class Ops(Protocol):
    """The array operations that the formulas need. Reductions are over the last axis."""

    kernels: dict[str, Callable[..., Any]]
    """The framework's kernels, which replace formulas, by name: see ``formulas.hot``."""

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
        """The permutation matrix whose entries of x, ``(..., N, N)``, have the largest sum."""

    def stop_gradient(self, x: Array, /) -> Array: ...
    def slope(self, logits: Array, p: Array, /) -> Array:
        """Zeros of p's shape, whose derivative by the logits is J(p) = diag(p) - p p^T.

        In general no function has this derivative, so a second derivative raises an error.
        """


class QuadratureOps(Ops, Protocol):
    """The operations that integrals and loops need in addition."""

    def columns(self, x: Array, /) -> Array:
        """x with each row as a column, ``(categories, rows)``, so that its sums add vectors."""

    def rows(self, x: Array, like: Array, /) -> Array:
        """The inverse of ``columns``, for an array of like's shape."""

    def total(self, x: Array, /) -> Array:
        """The sum of each column, over the last but one axis, which is kept with length 1."""

    def constant(self, values: Any, like: Array, /) -> Array:
        """NumPy values as an array of like's dtype."""

    def is_double(self, x: Array, /) -> bool: ...
    def interpolate(self, tables: list[Array], position: Array, /) -> list[Array]:
        """The values of functions that are polynomials on intervals.

        A table has the shape ``(order, *rows, intervals)``. With i the integer nearest to the
        position, its function is the sum over p of table[p, *rows, i] (position - i)^p. The axes
        ``rows`` are absent, or broadcast with the position's leading axes. Positions beyond the
        first or the last interval are moved to its centre.
        """

    def integrate(
        self, f: Callable[[Array], Sequence[Array]], points: Any, weights: Any, like: Array, /
    ) -> list[Array]:
        """sum_j weights_j f(points_j), for each array that f returns, at most as large as like."""

    def dot(self, x: Array, y: Array, /) -> Array:
        """The sum over x's last axis and y's first, to full precision."""

    def scan(self, step: Callable[..., Any], start: Any, values: Any, number: int, /) -> Any:
        """jax.lax.scan; if values are given, in reverse."""

    def with_gradient(
        self, function: Callable[..., list[Array | None]], *arguments: Array
    ) -> Array:
        """The function's value, one number per row, with the gradients that it computes as well.

        function(wanted, *arguments) returns the value, and then for each argument the gradient by
        it, or None where there is none or none is wanted. The gradient by the first argument has
        that argument's shape; the others have the value's shape.
        """
