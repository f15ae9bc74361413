"""The sections that experiments are run on. Imports the readers and the simulated tissue."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..datasets import VISIUM_SECTIONS, fetch_visium, make_tissue, read_sections

# Share of the cells of a section that models are not fitted on.
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Section:
    """Cells of one section.

    Attributes
    ----------
    name : str
        File and label.
    file : str
        Sections of one file have the same genes, so that a model of one can place another.
    X : CSR matrix of shape (n_cells, n_genes)
        Counts.
    coords : ndarray of shape (n_cells, n_dims)
    genes : ndarray of shape (n_genes,)
    """

    name: str
    file: str
    X: sp.csr_matrix
    coords: NDArray[np.float64]
    genes: NDArray[np.str_]

    def counts(self, rows: NDArray[np.intp]) -> sp.csr_matrix:
        """Counts of some cells."""
        return _canonical(self.X[rows])

    def split(self, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Cells to fit on and cells to hold out, drawn at random."""
        order = np.random.RandomState(seed).permutation(len(self.coords))
        n_held_out = round(_HELD_OUT * len(order))
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def _canonical(X: sp.csr_matrix) -> sp.csr_matrix:
    """The same matrix, with all that scipy notes of its order.

    scipy notes it at the first use, and caches take a matrix with a note for another one.
    """
    X.sum_duplicates()
    return X


def read_folder(folder: Path, max_cells: int, min_cells: int) -> list[Section]:
    """All sections of the .h5ad files of a folder that have enough cells.

    Parameters
    ----------
    folder : Path
        Counts are in ``.X``, positions in ``.obsm["spatial"]`` and labels, where a file has
        several sections, in ``.obs["section"]``.
    max_cells : int
        Of larger sections so many are drawn.
    min_cells : int
        Smaller sections are left out.
    """
    files = sorted(folder.glob("*.h5ad"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .h5ad file. Name a folder of sections.")
    found = []
    for path in files:
        data = read_sections(path)
        if data.coords is None:
            raise ValueError(f"{path} has no positions in obsm['spatial'].")
        for label in np.unique(data.sections).tolist():
            name = path.stem if label == path.stem else f"{path.stem}:{label}"
            rows = np.flatnonzero(data.sections == label)
            found += _with_enough_cells(name, path.stem, data, rows, max_cells, min_cells)
    if not found:
        raise ValueError(f"{folder} has no section of {min_cells} or more cells.")
    return found


def fetch_sections(max_cells: int, min_cells: int) -> list[Section]:
    """The paper's 27 public sections, downloaded unless that was done before.

    Parameters
    ----------
    max_cells, min_cells : int
        See `read_folder`.
    """
    found = []
    for name in VISIUM_SECTIONS:
        data = fetch_visium(name)
        rows = np.arange(len(data.coords))
        # Sections of one block of tissue.
        block = re.sub(r"_Section_\d+$", "", name)
        found += _with_enough_cells(name, block, data, rows, max_cells, min_cells)
    return found


def _with_enough_cells(
    name: str, file: str, data: Bunch, rows: NDArray[np.intp], max_cells: int, min_cells: int
) -> list[Section]:
    """The section in a list, or none if it is too small."""
    X = sp.csr_matrix(data.X[rows])
    # A cell without counts cannot be placed by anybody.
    kept = np.flatnonzero(np.asarray(X.sum(axis=1)).ravel() > 0)
    if len(kept) < min_cells:
        return []
    if len(kept) > max_cells:
        kept = np.sort(np.random.RandomState(0).permutation(kept)[:max_cells])
    return [
        Section(name, file, _canonical(X[kept]), data.coords[rows[kept]], np.asarray(data.genes))
    ]


def simulated(n_sections: int, n_cells: int, n_genes: int) -> list[Section]:
    """Sections of one simulated tissue."""
    tissue = make_tissue(n_cells * n_sections, n_genes, n_sections=n_sections, random_state=0)
    X = sp.csr_matrix(tissue.X)
    return [
        Section(
            str(label),
            "simulated",
            _canonical(X[rows]),
            tissue.coords[rows],
            np.asarray(tissue.genes),
        )
        for label in np.unique(tissue.sections)
        for rows in [np.flatnonzero(tissue.sections == label)]
    ]
