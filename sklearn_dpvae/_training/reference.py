"""The reference data: what training knows of the located cells. Imports the pairs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pairs import EdgeMask, GroupMask

# An ndarray or a CSR matrix; scipy has no types that tell them apart.
Matrix = Any


@dataclass(frozen=True, eq=False)
class ReferenceData:
    """Cells whose positions are known, checked.

    Attributes
    ----------
    X : ndarray or CSR matrix of shape (n_cells, n_features)
        What the encoder sees.
    coords : ndarray of shape (n_cells, n_dims), dtype float64
        Positions.
    codes : ndarray of shape (n_cells,), dtype int64
        Section of each cell, as an index of `labels`.
    labels : ndarray of shape (n_sections,)
        Labels of the sections.
    counts : ndarray or CSR matrix of shape (n_cells, n_genes), optional
        What a likelihood of counts explains, with its row sums as library sizes. It may be `X`
        itself. None for the Gaussian likelihood, which explains `X`.
    batch : ndarray of shape (n_cells,), dtype int64, optional
        Batch of each cell, as an index of `batches`, for the decoder; -1 if it is not known.
    batches : ndarray of shape (n_batches,), optional
        Labels of the batches.
    mask : EdgeMask or GroupMask, optional
        Pairs that the distance term looks at; None for all pairs of a section.
    views : tuple of {ndarray, CSR matrix} of shape (n_cells, n_features)
        Other measurements of the cells, of the kind of `X`.
    one_dimensional : bool
        Whether positions were given as one number for each cell.
    """

    X: Matrix
    coords: NDArray[np.float64]
    codes: NDArray[np.int64]
    labels: NDArray[Any]
    counts: Matrix | None = None
    batch: NDArray[np.int64] | None = None
    batches: NDArray[Any] | None = None
    mask: EdgeMask | GroupMask | None = None
    views: tuple[Matrix, ...] = ()
    one_dimensional: bool = False

    @property
    def n_sections(self) -> int:
        return len(self.labels)

    @property
    def explained(self) -> Matrix:
        """What p(x|z) explains."""
        return self.X if self.counts is None else self.counts

    @property
    def counts_as_input(self) -> bool:
        """Whether the encoder sees the counts that the decoder explains."""
        return self.counts is self.X
