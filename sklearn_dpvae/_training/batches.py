"""Random batches of a reference that is held in memory.

Imports the reference data, its rows and its pairs.
"""

import copy
import json
import zlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .._utils.matrix import below_each_other
from .pairs import EdgeMask, GroupMask
from .reference import ReferenceData
from .rows import rows_of, send_batch

# In a batch of a masked fit, each randomly drawn cell brings along up to this many of its masked
# neighbors. If all cells were drawn one by one, hardly any two of a batch would be a pair.
_NEIGHBORS_PER_SEED = 7


class Batches:
    """Random batches of a reference that is held in memory.

    A batch is gathered at once, instead of by a Python call for each row. Memory stays at the
    matrices themselves plus one batch. The last batch is as large as the others: the pairs of a
    tiny one would weigh too much.

    Parameters
    ----------
    data : ReferenceData
        With positions that are centered within sections and scaled.
    rows : list of ndarray
        For each member of the ensemble, the cells that it is trained on.
    batch_size : int or None
        None takes all cells at once.
    seed : int
    device : str
    give_counts : bool
        Whether the module is given what it explains, too.
    """

    def __init__(
        self,
        data: ReferenceData,
        rows: list[np.ndarray],
        batch_size: int | None,
        seed: int,
        device: str = "cpu",
        *,
        give_counts: bool = False,
    ):
        self.data = data
        self.give_counts = give_counts
        self.rows = rows
        self.batch_size = batch_size
        self.device = device
        self._rng = self._neighbors_rng = np.random.default_rng(seed)
        self._seed = seed
        self._rank, self._n_processes = 0, 1
        # All members see the same number of cells in a pass. One with a cell more leaves out a
        # different cell each time.
        self.n_cells = min(len(own) for own in rows)
        self._x = rows_of(below_each_other((data.X, *data.views)), device)
        self._s = torch.as_tensor(data.coords.astype(np.float32), device=device)
        self._codes = self._put(data.codes if data.n_sections > 1 else None)
        self._batch = self._put(data.batch)
        self._counts = self._library = self._groups = None
        if data.counts is not None:
            same = data.counts_as_input
            self._counts = self._x if same else rows_of(data.counts, device)
            library = np.asarray(data.counts.sum(axis=1), dtype=np.float32).ravel()
            self._library = self._put(library)
        if isinstance(data.mask, GroupMask):
            self._groups = self._put(data.mask.groups)
        self._edges: list[EdgeMask] = []
        if self.n_batches > 1:
            self._draw_edges()

    def _draw_edges(self) -> None:
        if isinstance(self.data.mask, EdgeMask):
            self._edges = [self.data.mask.restricted_to(own) for own in self.rows]

    def share(self, rank: int, n_processes: int) -> "Batches":
        """One process's share of every batch, where several train one net together.

        The processes go through the cells in the same order. There are as many batches and steps
        as with one process.
        """
        smallest = self.n_cells // self.n_batches // n_processes
        if smallest < 3:
            raise ValueError(
                f"{n_processes} processes would share a batch of "
                f"{self.n_cells // self.n_batches} cells, and each needs 3 or more. Raise "
                "batch_size or use fewer processes."
            )
        own = copy.copy(self)
        own._rank, own._n_processes = rank, n_processes
        # Processes draw different numbers of neighbors, but must keep the same order of cells.
        own._neighbors_rng = np.random.default_rng([self._seed, rank])
        own._draw_edges()
        return own

    def fingerprint(self) -> int:
        """Equal for batches of the same cells in the same order, as a rule."""
        rows = zlib.crc32(np.concatenate(self.rows).tobytes())
        return zlib.crc32(repr(self._rng.bit_generator.state).encode(), rows)

    @property
    def random_state(self) -> list[str]:
        """States of the generators that cells and neighbors are drawn from, as text."""
        return [json.dumps(rng.bit_generator.state) for rng in self._rngs]

    @random_state.setter
    def random_state(self, states: list[str]) -> None:
        for rng, state in zip(self._rngs, states, strict=True):
            rng.bit_generator.state = json.loads(state)

    @property
    def _rngs(self) -> list[np.random.Generator]:
        return [self._rng, self._neighbors_rng]

    def _put(self, array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.as_tensor(array, device=self.device)

    @property
    def n_batches(self) -> int:
        return 1 if self.batch_size is None else -(-self.n_cells // self.batch_size)

    def take(
        self,
        index: np.ndarray,
        position: Tensor | None = None,
        view: np.ndarray | None = None,
    ) -> tuple[dict, dict]:
        """The batch of these rows: inputs of the module, and what the loss compares with.

        Parameters
        ----------
        index : ndarray of shape (n_members, n_batch)
        position : Tensor of shape (n_members, n_batch), optional
            The same on the device, if it is there already.
        view : ndarray of shape (n_members, n_batch), optional
            Which measurement of each cell: 0 is `X`, and so is None for all.
        """
        if position is None:
            position = torch.as_tensor(index, device=self.device)

        def part(values):
            return None if values is None else values[position]

        if view is None:
            x = self._x.take(index, position)
        else:
            # The views lie below X in the order of the cells.
            seen = index + view * self.data.X.shape[0]
            x = self._x.take(seen, torch.as_tensor(seen, device=self.device))
        target = x
        if self._counts is not None and self._counts is not self._x:
            target = self._counts.take(index, position)
        given = {"x": x} if self._batch is None else {"x": x, "batch": part(self._batch)}
        if self.give_counts:
            given["counts"] = target
        compared = {
            "s": part(self._s),
            "codes": part(self._codes),
            "target": target,
            "library": part(self._library),
        }
        if self._groups is not None:
            compared["groups"] = part(self._groups)
        if isinstance(self.data.mask, EdgeMask):
            pairs, weights = self.data.mask.among(index)
            compared["pairs"] = send_batch(torch.as_tensor(pairs), self.device)
            compared["weights"] = send_batch(torch.as_tensor(weights), self.device)
        return given, compared

    def inputs_and_positions(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the encoder sees of some cells, their positions and their section codes."""
        position = torch.as_tensor(rows, device=self.device)
        codes = None if self._codes is None else self._codes[position]
        return self._x.take(rows, position), self._s[position], codes

    def __iter__(self) -> Iterator[tuple[dict, dict]]:
        batches = list(self._draw())
        # An epoch's order is sent at once: a transfer in every step would make a GPU wait.
        sizes = [index.shape[1] for index in batches]
        order = torch.as_tensor(np.concatenate(batches, axis=1), device=self.device)
        for index, position in zip(batches, order.split(sizes, dim=1), strict=True):
            view = None
            if self.data.views:
                view = self._neighbors_rng.integers(1 + len(self.data.views), size=index.shape)
            yield self.take(index, position, view)

    def _draw(self) -> Iterator[np.ndarray]:
        """Rows of each batch of one pass, (n_members, n_batch)."""
        order = np.stack([self._rng.permutation(rows)[: self.n_cells] for rows in self.rows])
        for batch in np.array_split(order, self.n_batches, axis=1):
            index = np.array_split(batch, self._n_processes, axis=1)[self._rank]
            if self._edges:
                index = np.stack(
                    [self._with_neighbors(*own) for own in zip(index, self._edges, strict=True)]
                )
            yield index

    def _with_neighbors(self, cells: np.ndarray, edges: EdgeMask) -> np.ndarray:
        """The same number of cells: the first ones, some of their neighbors, then the others."""
        seeds = cells[: -(-len(cells) // (1 + _NEIGHBORS_PER_SEED))]
        drawn = edges.draw_neighbors(seeds, _NEIGHBORS_PER_SEED, self._neighbors_rng)
        _, first = np.unique(wanted := np.concatenate([seeds, drawn, cells]), return_index=True)
        return wanted[np.sort(first)][: len(cells)]
