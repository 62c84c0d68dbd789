"""The rows and columns of the tables, the papers' numbers, and the settings of a run."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from relaxed_dists.schedules import constant, exponential

Array = np.ndarray

BATCH = 100  # images a step
EPOCH = 500  # steps of an epoch, one pass over the 50,000 training images
UNITS = 200  # binary units of a layer, or 20 one-hot variables with 10 classes
PIXELS = 784
SAMPLES = 1000  # of the reported bound, as in the paper


@dataclass(frozen=True)
class Row:
    """A model: its task, its latent variables, the decoder's hidden units, and the paper's row."""

    task: str  # "sbn" or "vae"
    latent: str  # "bernoulli" or "categorical"
    hidden: int
    about: str
    best: float = float("nan")  # the paper's best number in any column
    units: int = UNITS
    classes: int = 10
    # The fixed temperatures of guide and model, where both are relaxed.
    temperatures: tuple[float, float] | None = None

    @property
    def steps(self) -> int:
        """The number of steps of a full run."""
        return 60_000 if self.task == "sbn" else 30_000


JANG = {
    "sbn-bernoulli": Row("sbn", "bernoulli", 0, "392-200-200-392", 58.5),
    "sbn-categorical": Row("sbn", "categorical", 0, "392-(20x10)-(20x10)-392", 59.0),
    "vae-bernoulli": Row("vae", "bernoulli", 200, "784-200-(200)-784", 105.0),
    "vae-categorical": Row("vae", "categorical", 200, "784-(20x10)-(200)-784", 101.5),
    "vae-bernoulli-linear": Row("vae", "bernoulli", 0, "784-200-784", 105.0),
    "vae-categorical-linear": Row("vae", "categorical", 0, "784-(20x10)-784", 101.5),
}

# Binary variables at two pairs of temperatures. A variable of n classes is at
# 1 / (n - 1), at which the density has no mode inside of the simplex.
MADDISON = {
    "relaxed-binary": Row("vae", "bernoulli", 0, "784-200-784", temperatures=(2 / 3, 1 / 2)),
    "relaxed-binary-cold": Row("vae", "bernoulli", 0, "784-200-784", temperatures=(1 / 3, 1 / 4)),
    **{
        f"relaxed-{n}-ary": Row(
            "vae",
            "categorical",
            0,
            f"784-({variables}x{n})-784",
            units=variables * n,
            classes=n,
            temperatures=(1 / (n - 1),) * 2,
        )
        for variables, n in ((120, 4), (80, 8))
    },
}
ROWS = {**JANG, **MADDISON}

# Two columns of Jang et al. are this library's; the other three estimators came later. A model of
# Maddison et al. is trained by a bound of 1, 5 or 50 samples.
ESTIMATORS = {
    "soft": "Gumbel-Softmax",
    "st": "ST Gumbel-Softmax",
    "reinmax": "ReinMax",
    "rao": "GumbelRao",
    "loo": "LeaveOneOut_ELBO",
}
BOUNDS = {"m1": 1, "m5": 5, "m50": 50}
UNANNEALED = ("reinmax", "loo")  # ReinMax stays at 1, and the loss has no temperature
COLUMNS = ("soft", "st")
PAPER = {
    ("sbn", "bernoulli"): (58.5, 59.3),
    ("sbn", "categorical"): (59.0, 59.7),
    ("vae", "bernoulli"): (105.0, 111.5),
    ("vae", "categorical"): (101.5, 107.8),
}
FRAMEWORKS = {"numpyro": "NumPyro", "pyro": "Pyro"}


def paper(row: str, estimator: str) -> float | None:
    """The number of Jang et al., or None in a column that their paper doesn't have."""
    numbers = PAPER[ROWS[row].task, ROWS[row].latent]
    return dict(zip(COLUMNS, numbers, strict=True)).get(estimator)


@dataclass(frozen=True)
class Run:
    """One training. Its fields decide everything that is random in it."""

    framework: str
    row: str
    estimator: str
    steps: int
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """The name of the run's files."""
        parts = (self.row, self.estimator, self.framework)
        return "_".join([*parts, f"rate{self.rate:g}", f"steps{self.steps}", f"seed{self.seed}"])

    @property
    def model(self) -> Row:
        """The run's model."""
        return ROWS[self.row]

    @property
    def temperature(self) -> Any:
        """The schedule of the temperature; for a relaxed model, its fixed temperatures."""
        if self.model.temperatures:
            return dict(zip(("guide", "model"), self.model.temperatures, strict=True))
        sbn = self.model.task == "sbn"
        return constant(1.0) if sbn else exponential(1.0, rate=1e-4, floor=0.5, every=500)

    def estimator_of(self, ours: Any) -> Any:
        """A function from a temperature to the estimator; `ours` is this library's package."""
        return {
            "soft": partial(ours.GumbelSoftmax, hard=False),
            "st": ours.GumbelSoftmax,
            "reinmax": lambda temperature: ours.ReinMax(),
            "rao": partial(ours.GumbelRao, samples=10),
        }.get(self.estimator, lambda temperature: None)

    def loss(self, infer: Any, ours: Any, **more: Any) -> Any:
        """The ELBO to train with, from the framework's module of inference or from this library.

        More arguments are those of RenyiELBO in one framework alone.
        """
        samples = BOUNDS.get(self.estimator, 1)
        if samples > 1:
            return infer.RenyiELBO(alpha=0.0, num_particles=samples, **more)
        if self.estimator == "loo":
            return ours.LeaveOneOut_ELBO(2, vectorize_particles=True)
        # The densities of an SBN's guide cancel, since they are the model's own; with
        # LeaveOneOut_ELBO their gradients stay, as noise of mean 0. A VAE has the exact KL
        # divergence.
        return infer.Trace_ELBO() if self.model.task == "sbn" else infer.TraceMeanField_ELBO()

    def order(self, epoch: int, images: int) -> Array:
        """The images of each step of an epoch, a row of indices a step; the same in Pyro."""
        rng = np.random.default_rng((self.seed, epoch))
        return rng.permutation(images).reshape(-1, BATCH)


def default_rate(row: str, estimator: str) -> float:
    """The step size of Adam where none was chosen on the validation images."""
    return 3e-3 if (ROWS[row].task, estimator) == ("sbn", "st") else 1e-3
