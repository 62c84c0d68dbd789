"""The table of `make distributed`: its head, and a row that each example prints at its end."""

import math
import sys
from collections.abc import Callable

HEAD = (
    "example",
    "processes",
    "devices",
    "loss",
    "differ by",
    "collectives a step",
    "memory a device",
    "steps a second",
)


def row(
    example: str,
    processes: int,
    devices: int,
    loss: float,
    apart: float,
    collectives: str,
    memory: str,
    rate: float,
) -> None:
    """Print a row."""
    cells = [example, processes, devices, f"{loss:.5f}", f"{apart:.1e}", collectives, memory]
    print("|", *(f"{cell} |" for cell in [*cells, f"{rate:.0f}"]), flush=True)


def size(number: float) -> str:
    """A number of bytes in words."""
    return f"{number / 1e6:.0f} MB" if number > 1e6 else f"{number / 1e3:.1f} kB"


def peak() -> str:
    """The most memory that this process has had."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return size(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def sent_in_torch(step: Callable[[], object]) -> str:
    """How often the processes send each other something by gloo in a step, and how much."""
    import torch

    with torch.profiler.profile(record_shapes=True) as seen:
        step()
    found = [event.input_shapes for event in seen.events() if event.name.startswith("gloo:")]
    numbers = sum(math.prod(shape) for shapes in found for shape in shapes)
    return f"{len(found)} of {size(numbers * torch.get_default_dtype().itemsize)}"


if __name__ == "__main__":
    print("|", *(f"{cell} |" for cell in HEAD))
    print("|", *(f"{'---' if cell == 'example' else '---:'} |" for cell in HEAD))
