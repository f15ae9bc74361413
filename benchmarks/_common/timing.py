"""Clocks, and ratios of costs measured side by side."""

import time

import numpy as np

# Time of this process alone: a busy machine slows it by shared caches, but not by waiting.
clock = time.process_time


def ratios_in_turns(ours, other, repeats):
    """Ratios of the costs of two functions, which are called in turns."""
    ratios = []
    for _ in range(repeats):
        start = clock()
        ours()
        middle = clock()
        other()
        ratios.append((middle - start) / (clock() - middle))
    return np.array(ratios)


def spread(values):
    """Median, and first and third quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": float(middle), "low": float(low), "high": float(high)}
