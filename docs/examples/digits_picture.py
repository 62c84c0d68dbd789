"""The picture of the demo: digits, reconstructions, samples, and the curves of the training."""

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from digits_data import Array, Run

COLOURS = {"Pyro": "#c8553d", "NumPyro": "#3a86b7"}


def strip(axes: Axes, images: Array, title: str) -> None:
    """Draw a row of images, side by side."""
    padded = np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    axes.imshow(np.hstack(list(padded)), vmin=0, vmax=1)
    axes.text(-2, 4.5, title, ha="right", va="center", fontsize=9)
    axes.axis("off")


def curves(elbo: Axes, temperature: Axes, runs: list[Run], pixels: float) -> None:
    """Plot the training objective with the test ELBO at its end, and the temperature."""
    for run in runs:
        framework, _, kind = run.name.partition(", ")
        colour, annealed = COLOURS[framework], kind == "annealed"
        steps, temperatures, objective = zip(*run.curve, strict=True)
        line = {"color": colour, "ls": "-" if annealed else ":", "lw": 1.6}
        elbo.plot(steps, objective, label=run.name, **line)
        temperature.plot(steps, temperatures, **line)
        place = run.steps * (1.03 if framework == "Pyro" else 1.06)
        face = colour if annealed else "none"
        elbo.plot(place, run.test.elbo, "o", color=colour, mfc=face, ms=6)
    elbo.axhline(pixels, color="grey", ls="--", lw=1)
    label = {"color": "grey", "fontsize": 8, "va": "top", "ha": "right"}
    elbo.text(runs[0].steps * 1.06, pixels - 0.2, "independent pixels, test", **label)
    elbo.set_ylim(pixels - 1.5, None)
    elbo.set_title(
        "Nats per image. Lines: the training objective, with soft codes.\n"
        "Marks: the test ELBO of the discrete model, filled where annealed.",
        fontsize=9,
        loc="left",
    )
    elbo.legend(frameon=False, fontsize=8, loc="upper left")
    temperature.set_title("Temperature", fontsize=9, loc="left")
    temperature.set_ylim(0, 1.1)
    for axes in (elbo, temperature):
        axes.set_xlabel("step")
        axes.set_xlim(0, None)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)


def draw(digits: Array, runs: list[Run], pixels: float, path: str) -> None:
    """Draw the picture into a file.

    Args:
        digits: The held-out digits that the runs reconstruct.
        runs: The trainings.
        pixels: The test ELBO of the independent pixels.
        path: The file, whose ending determines the format.
    """
    with matplotlib.style.context(["default", {"image.cmap": "gray_r"}]):
        _draw(digits, runs, pixels, path)


def _draw(digits: Array, runs: list[Run], pixels: float, path: str) -> None:
    strips = [("held-out digits", digits)]
    annealed = [run for run in runs if run.name.endswith("annealed")]
    names = [run.name.partition(",")[0] for run in annealed]
    strips += [
        (f"{name},\nfrom hard codes", run.reconstructions)
        for name, run in zip(names, annealed, strict=True)
    ]
    strips += [
        (f"{name},\nfrom the prior", run.samples) for name, run in zip(names, annealed, strict=True)
    ]
    height = 0.75 * len(strips) + 3.9
    figure = Figure(figsize=(10, height))
    split = 3.85 / height
    rows = figure.add_gridspec(
        len(strips), 1, left=0.14, right=0.99, bottom=split, top=0.99, hspace=0.08
    )
    for row, (title, images) in zip(rows, strips, strict=True):
        strip(figure.add_subplot(row), images, title)
    below = figure.add_gridspec(
        1, 2, width_ratios=(2.2, 1), left=0.06, right=0.98, bottom=0.5 / height, top=split * 0.84
    )
    curves(*(figure.add_subplot(cell) for cell in below), runs, pixels)
    figure.savefig(path, dpi=150)
