"""Rows of a matrix in memory, as dense float32 tensors on the device that trains.

`rows_of` chooses where the matrix lives: on the CPU it stays as it was given; another device holds
it whole if there is room, so that a step copies nothing. Imports nothing of this package.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import gen_batches
from torch import Tensor

# Share of a GPU's free memory that the reference may take; nets and batches need some, too.
_SHARE_OF_MEMORY = 0.5

# Rows that are sent to a device in one piece.
_ROWS_PER_CHUNK = 4096


class Rows(Protocol):
    """What `Batches` asks of a matrix."""

    def take(self, index: np.ndarray, position: Tensor) -> Tensor:
        """The rows, in the shape of `index` and one more axis.

        Parameters
        ----------
        index : ndarray of int64
        position : Tensor
            The same on the device.
        """


class DenseRows:
    """A dense matrix on the device."""

    def __init__(self, X: Tensor):
        self.X = X

    def take(self, index: np.ndarray, position: Tensor) -> Tensor:
        return self.X[position]


class CompressedRows:
    """A CSR matrix on the device, made dense there batch by batch.

    Where a batch's values go is computed on the device. Only how many there are is needed on the
    host, which knows the lengths of the rows: asking the device would wait for it.
    """

    def __init__(self, X: sp.csr_matrix, device: str, send: Callable = Tensor.to):
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        self.n_columns = X.shape[1]
        self.lengths = np.diff(X.indptr).astype(np.int64)
        self.start = send(torch.from_numpy(X.indptr[:-1].astype(np.int64)), device)
        self.length = send(torch.from_numpy(self.lengths), device)
        self.column = send(tensor_of(X.indices), device)
        # Not all devices have float64, and half the bytes travel.
        self.value = send(tensor_of(X.data).to(torch.float32), device)

    def take(self, index: np.ndarray, position: Tensor) -> Tensor:
        row = position.flatten()
        n_values = int(self.lengths[index].sum())
        ends = self.length[row].cumsum(0)
        owner = torch.repeat_interleave(
            torch.arange(len(row), device=row.device), self.length[row], output_size=n_values
        )
        # The k-th value of the batch is the (k - values of the rows before)-th of its row.
        shift = self.start[row] - ends + self.length[row]
        source = torch.arange(n_values, device=row.device) + shift[owner]
        dense = self.value.new_zeros(len(row) * self.n_columns)
        dense[owner * self.n_columns + self.column[source]] = self.value[source]
        return dense.view(*index.shape, self.n_columns)


class HostRows:
    """A matrix that stays where it is; rows are sent to the device batch by batch.

    Sparse rows travel as they are and are made dense by the device. On the CPU nothing travels,
    and they are made dense in a buffer that is used again.
    """

    def __init__(self, X: "np.ndarray | sp.csr_matrix", device: str):
        self.X = X
        self.device = device
        self._buffer: np.ndarray | None = None

    def take(self, index: np.ndarray, position: Tensor) -> Tensor:
        part = self.X[index.ravel()]
        if sp.issparse(part):
            if torch.device(self.device).type != "cpu":
                every = np.arange(index.size).reshape(index.shape)
                sent = CompressedRows(part, self.device, send=send_batch)
                return sent.take(every, torch.arange(index.size, device=self.device))
            part = self._dense(part)
        rows = send_batch(torch.from_numpy(part).to(torch.float32), self.device)
        return rows.view(*index.shape, -1)

    def _dense(self, part: sp.csr_matrix) -> np.ndarray:
        if self._buffer is None or len(self._buffer) < part.shape[0]:
            self._buffer = np.empty(part.shape, dtype=part.dtype)
        dense = self._buffer[: part.shape[0]]
        dense.fill(0)
        return part.toarray(out=dense)


def rows_of(X: Any, device: str) -> Rows:
    """Rows of X, an array or CSR matrix, by whichever of these classes suits it and the device."""
    if torch.device(device).type == "cpu":
        if sp.issparse(X) or X.dtype != np.float32:
            return HostRows(X, device)
        return DenseRows(tensor_of(X))
    room = _SHARE_OF_MEMORY * free_memory(device)
    if sp.issparse(X):
        size = X.nnz * (4 + X.indices.itemsize)
        return CompressedRows(X, device) if size < room else HostRows(X, device)
    if 4 * X.size > room:
        return HostRows(X, device)
    dense = torch.empty(X.shape, dtype=torch.float32, device=device)
    for chunk in gen_batches(len(X), _ROWS_PER_CHUNK):
        dense[chunk] = torch.from_numpy(X[chunk].astype(np.float32)).to(device)
    return DenseRows(dense)


def send_batch(tensor: Tensor, device: str) -> Tensor:
    """The tensor on the device, without waiting for what a GPU has still to do.

    That takes memory which the system cannot move. torch keeps such blocks, and gives one out
    again when the device has read it. A whole matrix is better sent as it is: it would be copied.
    """
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor on the same memory; of a copy where that is read-only, which torch cannot hold."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def free_memory(device: str) -> float:
    """Bytes that are free on a device; infinite where torch does not tell."""
    if torch.device(device).type == "cuda":
        # What torch keeps of what was freed is as good as free.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(torch.device(device))[0] + kept
    return np.inf
