"""Times of alternatives, taken in turn, so that what slows the machine slows all of them."""

import random
import statistics
import time
from collections.abc import Callable


def interleaved(
    steps: dict[str, Callable[[], object]],
    seconds: float = 2.0,
    least: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds of each step in every round, a round running each once.

    Args:
        steps: What to time; each waits for its own result.
        seconds: About how long to go on, the first, untimed runs (which compile) not counted.
        least: The least number of rounds.
        clock: What the steps are timed by, in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    end, shuffle = time.perf_counter() + seconds, random.Random(0)
    while len(next(iter(times.values()))) < least or time.perf_counter() < end:
        # In a new order each round: a step pays for the caches and the memory that the one before
        # it left, which in one order made a ratio of 1 look like anything from 0.8 to 2.
        for name in shuffle.sample(list(steps), len(steps)):
            start = clock()
            steps[name]()
            times[name].append(clock() - start)
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(values) for name, values in times.items()}


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    """The median over rounds of one's time to another's."""
    return statistics.median(x / y for x, y in zip(times[name], times[to], strict=True))
