"""Trains one problem in every way, chooses step sizes, and times the steps."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from numpyro.infer import Trace_ELBO, TraceMeanField_ELBO

from benchmarks.estimators.digits import ways
from benchmarks.estimators.problems import Problem
from benchmarks.timing import interleaved, medians, ratio
from relaxed_dists.numpyro import AnnealedSVI
from relaxed_dists.schedules import exponential

CHUNK = 10  # steps of one call
FLOOR = 0.3
GRID = [float(f"{digit}e{power}") for power in range(-5, 1) for digit in (1, 3)]  # step sizes
FIRST = "StraightThrough()"  # whose time is 1


class Training:
    """A problem and a way to train it, compiled once for all seeds and step sizes."""

    def __init__(self, problem: Problem, label: str, steps: int) -> None:
        self.problem, self.steps = problem, steps
        exact, temperature = problem.exact(), None
        if label in exact:
            model, guide = exact[label].model, exact[label].guide or (lambda x, rows: None)
            loss: Any = TraceMeanField_ELBO() if exact[label].guide else Trace_ELBO()
        else:
            way = ways("numpyro")[label]
            loss, model = way.loss(self._surrogate), problem.model
            # The temperature is at the floor after 60 % of the steps.
            rate = math.log(problem.start / FLOOR) / (0.6 * steps)
            temperature = exponential(problem.start, rate=rate, floor=FLOOR)

            def guide(x: Any, rows: Any, temperature: Any = 1.0) -> None:
                if getattr(loss, "surrogate", None):
                    self._declare(x, rows)
                problem.guide(x, rows, way.estimator(temperature))

        # The step size is a number in the optimiser's state.
        adam = optax.inject_hyperparams(optax.adam)(learning_rate=0.0)
        self.svi = AnnealedSVI(model, guide, adam, loss, temperature)
        self._init = jax.jit(self.svi.init)
        self.advance = jax.jit(self._advance)

    def _surrogate(self, params: Any, values: Any, x: Any, rows: Any) -> Any:
        with numpyro.handlers.substitute(data=params):
            return self.problem.surrogate(values, x)

    def _declare(self, x: Any, rows: Any) -> None:
        """Declare the surrogate's parameters in the guide."""
        with numpyro.handlers.block(), numpyro.handlers.trace() as trace:
            self.problem.guide(x, rows)
        self.problem.surrogate({k: m["value"] for k, m in trace.items()}, x)

    def _advance(self, state: Any, batches: Any) -> Any:
        x = self.problem.parts.train
        return jax.lax.scan(lambda s, b: self.svi.update(s, x[b], b), state, batches)

    def start(self, seed: int, rate: float) -> Any:
        """The state before the first step."""
        rows = self.batches(seed)[0]
        state = self._init(jax.random.key(seed), self.problem.parts.train[rows], rows)
        _, (_, inner) = state.optim_state
        inner.hyperparams["learning_rate"] = jnp.float32(rate)
        return state

    def batches(self, seed: int) -> np.ndarray:
        """The indices of the data of each step, in a new order in each epoch."""
        n, batch = len(self.problem.parts.train), self.problem.batch
        if batch is None:
            return np.tile(np.arange(n), (self.steps, 1))
        rng, epochs = np.random.default_rng(seed), -(-self.steps * batch // n)
        orders = np.concatenate([rng.permutation(n) for _ in range(epochs)])
        return orders[: self.steps * batch].reshape(self.steps, batch)

    def fit(self, seed: int, rate: float) -> dict[str, Any]:
        """The parameters after all steps."""
        state, batches = self.start(seed, rate), self.batches(seed)
        for chunk in batches.reshape(-1, CHUNK, batches.shape[-1]):
            state, _ = self.advance(state, chunk)
        return dict(self.svi.get_params(state))

    def chunk(self) -> Callable[[], object]:
        """A function that takes CHUNK steps from the start, to be timed."""
        state, batches = self.start(0, self.problem.rates[0]), self.batches(0)[:CHUNK]
        return lambda: jax.block_until_ready(self.advance(state, batches))


def labels(problem: Problem) -> list[str]:
    """The names of all ways to train a problem."""
    return [*problem.exact(), *(name for name in ways("numpyro") if name not in problem.refused)]


def choose(training: Training, fitted: dict[float, Any], tried: dict[float, float]) -> float:
    """The step size with the best validation score by the first seed.

    While the best of those that were tried is the largest or the least, the next one is tried too.

    Args:
        training: The training.
        fitted: Gets the parameters for each step size that is tried.
        tried: The scores of step sizes that were tried before; gets those of the others.
    """
    problem, ahead = training.problem, [*training.problem.rates]
    while True:
        for rate in ahead:
            if rate not in tried:
                fitted[rate] = training.fit(0, rate)
                scores = problem.scores(fitted[rate], 0, problem.parts.validation)
                score = next(iter(scores.values()))
                tried[rate] = score if math.isfinite(score) else -math.inf
        best, edges = max(tried, key=tried.__getitem__), [min(tried), max(tried)]
        if len(problem.rates) == 1 or best not in edges:
            return best
        i = GRID.index(best) + (1 if best == edges[1] else -1)
        if not 0 <= i < len(GRID):
            return best
        ahead = [GRID[i]]


def measured(training: Training, seeds: int) -> dict[str, Any]:
    """The step sizes that were tried, and the test scores of the best one for each seed."""
    fitted: dict[float, Any] = {}
    tried: dict[float, float] = {}
    best = choose(training, fitted, tried)
    runs = [fitted[best], *(training.fit(seed, best) for seed in range(1, seeds))]
    test = [training.problem.scores(p, i, training.problem.parts.test) for i, p in enumerate(runs)]
    validation = {f"{rate:g}": tried[rate] for rate in sorted(tried)}
    return {"rate": best, "validation": validation, "test": test}


def timed(trainings: dict[str, Training], seconds: float) -> dict[str, dict[str, float]]:
    """The processor's milliseconds of a step, and its time relative to that of FIRST."""
    steps = {label: training.chunk() for label, training in trainings.items()}
    times = interleaved(steps, seconds, clock=time.process_time)
    middle = medians(times)
    return {
        label: {"ms": 1e3 * middle[label] / CHUNK, "ratio": ratio(times, label, FIRST)}
        for label in steps
    }
