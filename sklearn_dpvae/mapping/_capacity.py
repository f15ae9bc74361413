"""Each cell in one location, none of which holds more cells than it may.

The assignment problem of cells and places in locations. Prices of locations come from entropic
optimal transport (Cuturi 2013, https://arxiv.org/abs/1306.0895) on the cheapest locations of each
cell, cells are assigned by them, and scipy's `linear_sum_assignment` then reassigns blocks of
cells until nothing gets better. Memory is linear in cells. Imports nothing of the package.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.utils import gen_batches

# Costs of some cells in every location.
Costs = Callable[[NDArray[np.intp]], NDArray[np.float32]]

_N_CANDIDATES = 64
_N_UPDATES = 50
# Softness of the transport, over the spread of costs among the candidates: less in each round.
_SOFTNESS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.03)
# Change of prices, in units of the softness, at which a round is over.
_SETTLED = 0.01
# Cells, and places in locations, that are assigned by scipy at a time.
_BLOCK = 1_500
_MOST_SWEEPS = 5
# Improvement, over the cost of everything, below which there is no other sweep.
_ENOUGH = 1e-3
# Costs of so many cells in all locations are in memory at a time.
_ROWS_PER_CHUNK = 250


def assign(costs: Costs, n_cells: int, capacity: NDArray[np.int64]) -> NDArray[np.intp]:
    """Assign cells to locations.

    Parameters
    ----------
    costs : callable
        Takes rows of cells, returns an array of shape (n_rows, n_locations).
    n_cells : int
    capacity : ndarray of shape (n_locations,)
        Most cells of each location.

    Returns
    -------
    ndarray of shape (n_cells,)
        Location of each cell, -1 where all are full. The sum of the costs is the smallest there
        is where there are at most 1,500 cells and as many places; else it is close to that.
    """
    rng = np.random.default_rng(0)
    slots = np.repeat(np.arange(len(capacity)), np.minimum(capacity, n_cells))
    if max(n_cells, len(slots)) <= _BLOCK:
        where = np.full(n_cells, -1, dtype=np.intp)
        rows, columns = linear_sum_assignment(_table(costs, np.arange(n_cells), slots))
        where[rows] = slots[columns]
        return where
    prices = _prices(costs, n_cells, capacity)
    where = _by_price(costs, n_cells, capacity, prices)
    before = np.inf
    for _ in range(_MOST_SWEEPS):
        spent = _sweep(costs, where, capacity, prices, rng)
        if before - spent <= _ENOUGH * abs(spent):
            break
        before = spent
    return where


def _table(costs: Costs, cells: NDArray[np.intp], slots: NDArray[np.intp]) -> NDArray[np.float32]:
    """Costs of some cells in some places."""
    parts = (cells[rows] for rows in gen_batches(len(cells), _ROWS_PER_CHUNK))
    return np.concatenate([costs(part)[:, slots] for part in parts])


def _chunks(n_cells: int) -> Any:
    return (np.arange(rows.start, rows.stop) for rows in gen_batches(n_cells, _ROWS_PER_CHUNK))


def _cheapest(
    costs: Costs, n_cells: int, prices: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Costs, without prices, and numbers of the locations that are cheapest for each cell."""
    n = min(_N_CANDIDATES, len(prices))
    cost = np.empty((n_cells, n), dtype=np.float32)
    index = np.empty((n_cells, n), dtype=np.int32)
    for rows in _chunks(n_cells):
        own = costs(rows)
        best = np.argpartition(own + prices, n - 1, axis=1)[:, :n]
        cost[rows] = np.take_along_axis(own, best, axis=1)
        index[rows] = best
    return cost, index


def _prices(costs: Costs, n_cells: int, capacity: NDArray[np.int64]) -> NDArray[np.float32]:
    """Prices at which no location attracts more cells than it holds, about."""
    holds = capacity.astype(np.float64)
    # If not all cells find room, all locations are about as overcrowded.
    holds *= max(1.0, n_cells / max(holds.sum(), 1.0))
    open_ = holds > 0
    prices = np.where(open_, 0.0, np.inf).astype(np.float32)
    for softness in _SOFTNESS:
        cost, index = _cheapest(costs, n_cells, prices)
        finite = np.where(np.isfinite(cost), cost, np.nan)
        unit = softness * max(float(np.nanmedian(np.nanstd(finite, axis=1))), 1e-6)
        for _ in range(_N_UPDATES):
            net = -(cost + prices[index]) / unit
            net -= net.max(axis=1, keepdims=True)
            np.exp(net, out=net)
            net /= net.sum(axis=1, keepdims=True)
            taken = np.bincount(index.ravel(), net.ravel(), minlength=len(prices))
            change = unit * np.log(np.maximum(taken[open_], 1e-12) / holds[open_])
            before = prices[open_]
            prices[open_] = np.maximum(before + change, 0.0)
            if np.abs(prices[open_] - before).max() < _SETTLED * unit:
                break
    return prices


def _by_price(
    costs: Costs, n_cells: int, capacity: NDArray[np.int64], prices: NDArray[np.float32]
) -> NDArray[np.intp]:
    """Every cell in a location that it likes at these prices, those with most to lose first."""
    cost, index = _cheapest(costs, n_cells, prices)
    net = cost + prices[index]
    order = np.argsort(net, axis=1)
    index = np.take_along_axis(index, order, axis=1)
    net = np.take_along_axis(net, order, axis=1)
    left = capacity.copy()
    where = np.full(n_cells, -1, dtype=np.intp)
    loses = net[:, min(4, net.shape[1] - 1)] - net[:, 0]
    for cell in np.argsort(-loses, kind="stable"):
        free = np.flatnonzero(left[index[cell]] > 0)
        if len(free):
            where[cell] = index[cell, free[0]]
            left[where[cell]] -= 1
    homeless = np.flatnonzero(where < 0)
    for rows in np.array_split(homeless, max(1, -(-len(homeless) // _ROWS_PER_CHUNK))):
        if not len(rows) or not left.any():
            break
        wanted = costs(rows) + np.where(np.isfinite(prices), prices, 0.0)
        for cell, own in zip(rows, wanted, strict=True):
            if not left.any():
                break
            where[cell] = np.argmin(np.where(left > 0, own, np.inf))
            left[where[cell]] -= 1
    return where


def _sweep(
    costs: Costs,
    where: NDArray[np.intp],
    capacity: NDArray[np.int64],
    prices: NDArray[np.float32],
    rng: np.random.Generator,
) -> float:
    """Reassign blocks of cells that compete, among their locations and those with room."""
    n_cells = len(where)
    spent = 0.0
    # Cells in similar locations compete: blocks follow the order of a random pivot's likeness.
    pivots = costs(rng.integers(n_cells, size=1))[0].astype(np.float64)
    pivots = np.where(np.isfinite(pivots), pivots, 0.0)
    at = pivots[np.maximum(where, 0)] + 1e-9 * rng.standard_normal(n_cells)
    order = np.argsort(at, kind="stable")
    shift = rng.integers(_BLOCK)
    blocks = np.split(order, np.arange(shift, n_cells, _BLOCK))
    for block in blocks:
        if not len(block):
            continue
        left = capacity - np.bincount(where[where >= 0], minlength=len(capacity))
        own = where[block][where[block] >= 0]
        # Free places next to those of the block, by price the ones that may be wanted.
        free = np.repeat(np.arange(len(capacity)), np.minimum(left, 2))
        if len(free) > _BLOCK // 2:
            near = np.abs(pivots[free] - np.median(at[block]))
            free = free[np.argsort(near, kind="stable")[: _BLOCK // 2]]
        slots = np.append(own, free)
        if not len(slots):
            continue
        table = _table(costs, block, slots)
        rows, columns = linear_sum_assignment(table)
        where[block] = -1
        where[block[rows]] = slots[columns]
        spent += float(table[rows, columns].sum())
    return spent
