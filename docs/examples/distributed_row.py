"""The table of `make distributed`: its head, and a row that each example prints at its end."""

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


if __name__ == "__main__":
    print("|", *(f"{cell} |" for cell in HEAD))
    print("|", *(f"{'---' if cell == 'example' else '---:'} |" for cell in HEAD))
