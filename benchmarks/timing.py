"""Times of alternatives, measured in turn, so that a busy machine slows all of them alike."""

import random
import statistics
import time
from collections.abc import Callable


def interleaved(
    steps: dict[str, Callable[[], object]],
    seconds: float = 2.0,
    least: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    turn: float = 0.0,
) -> dict[str, list[float]]:
    """The seconds of one call of each step in each round; in a round, every step has a turn.

    Args:
        steps: The functions to time; each waits for its result.
        seconds: About how long to measure, without the first runs, which compile and are not timed.
        least: The least number of rounds.
        clock: The clock that times the steps, in seconds.
        turn: About how many seconds a turn takes at least: a short step is called that often.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    calls = {}
    for name, step in steps.items():
        step()
        start = clock()
        step()
        calls[name] = max(1, round(turn / max(clock() - start, 1e-6)))
    end, shuffle = time.perf_counter() + seconds, random.Random(0)
    while len(next(iter(times.values()))) < least or time.perf_counter() < end:
        # The order changes in each round: the caches and the memory that a step leaves affect the
        # next step. With a fixed order, equal steps had ratios from 0.8 to 2.
        for name in shuffle.sample(list(steps), len(steps)):
            step, n = steps[name], calls[name]
            start = clock()
            for _ in range(n):
                step()
            times[name].append((clock() - start) / n)
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """The median time of each step."""
    return {name: statistics.median(values) for name, values in times.items()}


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    """The median over rounds of the time of step `name` divided by that of step `to`."""
    return statistics.median(x / y for x, y in zip(times[name], times[to], strict=True))
