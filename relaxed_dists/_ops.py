"""The array operations that each framework (torch or JAX) provides for the formulas."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Array = Any  # an array of the framework whose operations a formula is called with


class Ops(Protocol):
    """The array operations that the formulas need. Reductions are over the last axis."""

    kernels: dict[str, Callable[..., Any]]
    """The framework's kernels, which are faster replacements of formulas: see ``formulas.hot``."""

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
        """Zeros of p's shape, whose derivative by the logits is J(p) = diag(p) - p p^T.

        If p is not softmax(logits), no function has the derivative J(p), so asking for a second
        derivative raises an error.
        """


class QuadratureOps(Ops, Protocol):
    """The operations that integrals and loops need in addition to those of Ops."""

    def columns(self, x: Array, /) -> Array:
        """x of shape ``(..., K)`` as a matrix of shape ``(K, rows)``: each row is then a column.

        A sum over the K categories then adds vectors, which is fast.
        """

    def rows(self, x: Array, like: Array, /) -> Array:
        """The inverse of ``columns``: the matrix x of shape ``(K, rows)``, in the shape of like."""

    def total(self, x: Array, /) -> Array:
        """The sum over the last but one axis, which is kept with length 1."""

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

        The points get like's dtype. Each array that f returns is at most as large as like.
        """

    def dot(self, x: Array, y: Array, /) -> Array:
        """The product x y, summed over x's last axis and y's first axis, to full precision."""

    def scan(self, step: Callable[..., Any], start: Any, values: Any, number: int, /) -> Any:
        """The same as jax.lax.scan, with ``reverse=True`` if values are given."""

    def with_gradient(
        self, function: Callable[..., list[Array | None]], *arguments: Array
    ) -> Array:
        """The function's value, one number per row, with derivatives that the function computes.

        function(wanted, *arguments) returns the value, and then one gradient for each argument. The
        gradient is None if ``wanted`` is False for the argument, or if the value does not depend on
        the argument. The gradient by the first argument has the first argument's shape; the other
        gradients have the value's shape.
        """
