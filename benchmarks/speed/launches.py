"""The launches of a GPU, counted without one, and how often it is waited for.

    python -m benchmarks.speed.launches [--markdown]
    RELAXED_DISTS_KERNELS=triton TRITON_INTERPRET=1 python -m benchmarks.speed.launches

A dispatch mode sees each operation that torch runs. Views and allocations launch nothing, and
operations that start with a copy launch two kernels. The tensors are on the CPU, but say that they
are not, so that this library does what it does on a GPU. With Triton's kernels switched on, its
interpreter runs them, and each call of one is a launch. The launches of the loss itself are left
out: of the product, the sums and their gradients. A missed goal is marked with an x.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pyro.distributions as dist
import torch
import torch._dynamo  # reads Tensor's attributes when it is imported: so before as_on_a_gpu
from torch import Tensor
from torch.nn.functional import gumbel_softmax
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.tables import show
from relaxed_dists import pyro as ours
from relaxed_dists_torch import by_triton, seed
from relaxed_dists_torch.compiled.load import BY_TRITON

SHAPE = (100, 20, 10)
FREE = torch.zeros(SHAPE[:-1])
OPERATIONS = ("draw", "forward and backward", "ELBO term")
GOALS = {
    "ours": (12, 20, 34),
    "ours, OneHotCategorical with GumbelSoftmax": (14, 22, 40),
}
TRITON_GOALS = {"ours": (2, 4, 8), "ours, OneHotCategorical with GumbelSoftmax": (2, 4, 8)}
ALLOCATE = {"empty", "empty_like", "empty_strided", "new_empty", "lift_fresh", "resize_"}
COPY_FIRST = {"masked_fill", "scatter", "index_fill", "scatter_add", "index_put"}


class Launches(TorchDispatchMode):
    """Counts launches, and the answers that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.waits = 0

    @property
    def number(self) -> int:
        """The number of launches."""
        return sum(2 if name in COPY_FIRST else 1 for name in self.names)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if args and args[0] is getattr(seed._local, "number", None):
            return func(*args, **(kwargs or {}))  # a seed's number is on the host on a GPU too
        if name in ("_local_scalar_dense", "equal"):
            self.waits += 1
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not func.is_view and name not in ALLOCATE:
            self.names.append(name)
        return result


@contextlib.contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Tensors say that they are not on a CPU."""
    torch.Tensor.is_cpu = property(lambda _: False)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del torch.Tensor.is_cpu


@contextlib.contextmanager
def counted() -> Iterator[Launches]:
    """Count the launches of a block, as if its tensors were on a GPU."""
    launch = by_triton._launch
    with as_on_a_gpu(), Launches() as launches:

        def noted(name: str, *arguments: Any, **constants: Any) -> None:
            launches.names.append(f"triton {name}")
            # The interpreter runs a kernel by NumPy, and copies its arguments for that.
            with torch.utils._python_dispatch._disable_current_modes():
                launch(name, *arguments, **constants)

        by_triton._launch = noted
        try:
            yield launches
        finally:
            by_triton._launch = launch


def _free(logits: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """A draw and a density that cost nothing: what is left is the loss."""
    return logits, lambda: FREE


def count(subject: Callable[[Tensor], tuple[Tensor, Any]]) -> list[tuple[int, int] | None]:
    """The launches and waits of a subject's operations, with those of the loss."""
    found: list[tuple[int, int] | None] = []
    for operation in OPERATIONS:
        logits, weights = torch.randn(SHAPE), torch.randn(SHAPE)
        logits.requires_grad_(operation != "draw")
        with counted() as launches:
            value, density = subject(logits)
            if operation != "draw":
                loss = (value * weights).sum()
                if operation == "ELBO term":
                    if density is None:
                        found.append(None)
                        continue
                    loss = loss + density().sum()
                loss.backward()
        found.append((launches.number, launches.waits))
    return found


def subjects() -> dict[str, Callable[[Tensor], tuple[Tensor, Any]]]:
    """Functions of logits to a draw, and to a function that returns its log density."""
    t = torch.tensor(0.5)

    def of(make: Callable[[Tensor], Any]) -> Callable[[Tensor], tuple[Tensor, Any]]:
        def subject(logits: Tensor) -> tuple[Tensor, Any]:
            d = make(logits)
            z = d.rsample()
            return z, lambda: d.log_prob(z)

        return subject

    relaxed, hard = ours.RelaxedOneHotCategorical, ours.OneHotCategorical
    soft = ours.GumbelSoftmax(0.5)
    off: Any = {"validate_args": False}
    return {
        "torch": of(lambda x: dist.RelaxedOneHotCategorical(t, logits=x, **off)),
        "F.gumbel_softmax": lambda x: (gumbel_softmax(x, 0.5), None),
        "F.gumbel_softmax, hard": lambda x: (gumbel_softmax(x, 0.5, hard=True), None),
        "ours": of(lambda x: relaxed(0.5, logits=x, **off)),
        "ours, the temperature a tensor": of(lambda x: relaxed(t, logits=x, **off)),
        "ours, validating": of(lambda x: relaxed(t, logits=x)),
        "ours, OneHotCategorical with GumbelSoftmax": of(
            lambda x: hard(logits=x, estimator=soft, **off)
        ),
        "ours, OneHotCategorical, validating": of(lambda x: hard(logits=x, estimator=soft)),
    }


def report(markdown: bool) -> int:
    """Print the table, and return the number of missed goals."""
    torch.manual_seed(0)
    seed.seed(torch.Size(()), None)  # the first one makes a tensor on the host
    loss = count(_free)
    rows, missed = [], 0
    for name, subject in subjects().items():
        cells = []
        for i, (got, alone) in enumerate(zip(count(subject), loss, strict=True)):
            if got is None or alone is None:
                cells.append("")
                continue
            goals = TRITON_GOALS if BY_TRITON else GOALS
            number, goal = got[0] - alone[0], goals.get(name, (None,) * 3)[i]
            late = goal is not None and number > goal
            missed += late
            cell = f"{number}" + ("" if goal is None else f" ({goal}){' x' if late else ''}")
            cells.append(cell + (f", waits: {got[1]}" if got[1] else ""))
        rows.append((name, *cells))
    way = "Triton's kernels" if BY_TRITON else "torch's operations"
    title = f"Launches on a GPU, counted, by {way}: in brackets the goal, x where it is missed"
    show(title, ("of", *OPERATIONS), rows, markdown)
    return missed


def main() -> int:
    """Print the table, and return the number of missed goals."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--markdown", action="store_true")
    return report(parser.parse_args().markdown)


if __name__ == "__main__":
    sys.exit(main())
