"""The picture of the temperature schedules: a panel for each, under the call that makes it."""

import sys

import numpy as np
from matplotlib.figure import Figure

from relaxed_dists import schedules

CALLS = [
    "constant(0.7)",
    "linear(1.0, 0.3, steps=80)",
    "cosine(1.0, 0.3, steps=80)",
    "polynomial(1.0, 0.3, steps=80, power=3)",
    "exponential(1.0, 0.02, 0.3, every=10)",
    "inverse_time(1.0, rate=0.05, floor=0.3)",
    "piecewise(1.0, {30: 0.6, 60: 0.3})",
    "join([constant(0.8), linear(1.0, 0.3, 50)], [30])",
    "warmup(linear(1.0, 0.3, 60), steps=30)",
]


def draw(path: str) -> None:
    """Draw the picture into a file.

    Args:
        path: The file, whose ending determines the format.
    """
    steps = np.arange(100)
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for axes, call in zip(figure.subplots(3, 3, sharex=True, sharey=True).flat, CALLS, strict=True):
        temperature = eval(call, vars(schedules).copy())  # the title is the call that is drawn
        axes.plot(steps, temperature(steps), color="#2a6f97", lw=1.8)
        axes.set_title(call, fontsize=6.5, family="monospace", loc="left")
        axes.set_ylim(0, 1.1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("temperature", fontsize=9)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    draw(sys.argv[1])
