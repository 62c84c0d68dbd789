"""The rows and columns of the table, the paper's numbers, and the settings of a run."""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

BATCH = 100  # images a step
EPOCH = 500  # steps of an epoch, one pass over the 50,000 training images
UNITS = 200  # binary units of a layer, or 20 one-hot variables with 10 classes
CLASSES = 10
PIXELS = 784
SAMPLES = 1000  # of the reported bound, as in the paper


@dataclass(frozen=True)
class Row:
    """A model: its task, its latent variables, the decoder's hidden units, and the paper's row."""

    task: str  # "sbn" or "vae"
    latent: str  # "bernoulli" or "categorical"
    hidden: int
    about: str
    best: float  # the paper's best number in any column

    @property
    def steps(self) -> int:
        """The number of steps of a full run."""
        return 60_000 if self.task == "sbn" else 30_000


ROWS = {
    "sbn-bernoulli": Row("sbn", "bernoulli", 0, "392-200-200-392", 58.5),
    "sbn-categorical": Row("sbn", "categorical", 0, "392-(20x10)-(20x10)-392", 59.0),
    "vae-bernoulli": Row("vae", "bernoulli", 200, "784-200-(200)-784", 105.0),
    "vae-categorical": Row("vae", "categorical", 200, "784-(20x10)-(200)-784", 101.5),
    "vae-bernoulli-linear": Row("vae", "bernoulli", 0, "784-200-784", 105.0),
    "vae-categorical-linear": Row("vae", "categorical", 0, "784-(20x10)-784", 101.5),
}

# The two columns of the paper that are this library's, and the estimators that came later.
ESTIMATORS = {
    "soft": "Gumbel-Softmax",
    "st": "straight-through",
    "reinmax": "ReinMax",
    "rao": "GumbelRao",
    "loo": "LeaveOneOut_ELBO",
}
COLUMNS = ("soft", "st")
PAPER = {
    ("sbn", "bernoulli"): (58.5, 59.3),
    ("sbn", "categorical"): (59.0, 59.7),
    ("vae", "bernoulli"): (105.0, 111.5),
    ("vae", "categorical"): (101.5, 107.8),
}
FRAMEWORKS = {"numpyro": "NumPyro", "pyro": "Pyro"}


def paper(row: str, estimator: str) -> float | None:
    """The paper's number, or None in a column that the paper doesn't have."""
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

    def order(self, epoch: int, images: int) -> Array:
        """The images of each step of an epoch, a row of indices a step; the same in Pyro."""
        rng = np.random.default_rng((self.seed, epoch))
        return rng.permutation(images).reshape(-1, BATCH)


def default_rate(row: str, estimator: str) -> float:
    """The step size of Adam where none was chosen on the validation images."""
    return 3e-3 if (ROWS[row].task, estimator) == ("sbn", "st") else 1e-3
