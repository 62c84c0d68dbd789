"""The data of the demo, and the types that its modules share."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Array = np.ndarray

LATENTS, CLASSES = 20, 10
HIDDEN = 128
BATCH = 100
LEARNING_RATE = 3e-3

Report = Callable[[int, float, float], None]
"""Called during training with the step, the temperature and the ELBO per image."""


class Digits(NamedTuple):
    """Binary images of 64 pixels: 1,300 to train on, 497 held out."""

    train: Array
    test: Array


class Bounds(NamedTuple):
    """Lower bounds on the log-likelihood of the discrete model, in nats per image."""

    elbo: float
    importance_weighted: float


class Run(NamedTuple):
    """A training: its reports, the model's test bounds, and samples of the model."""

    name: str
    steps: int
    seconds: float
    curve: list[tuple[int, float, float]]
    test: Bounds
    reconstructions: Array
    samples: Array


def load() -> Digits:
    """The handwritten digits of scikit-learn, binarised; the split never changes."""
    digits = load_digits()
    images = (digits.data >= 8).astype(np.float32)
    train, test = train_test_split(images, train_size=1300, stratify=digits.target, random_state=0)
    return Digits(train, test)


def pixel_frequencies(images: Array) -> Array:
    """How often each pixel is on; Laplace's rule keeps each frequency off 0 and 1."""
    return (images.sum(0) + 1) / (len(images) + 2)


def independent_pixels(digits: Digits) -> tuple[float, Bounds]:
    """The reference without latent variables: its log-likelihood in training and held out."""
    on = pixel_frequencies(digits.train)
    train, test = (
        float((images * np.log(on) + (1 - images) * np.log1p(-on)).sum(-1).mean())
        for images in digits
    )
    return train, Bounds(test, test)
