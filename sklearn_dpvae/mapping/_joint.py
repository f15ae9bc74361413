"""Expression of cells and locations side by side: what the two data sets have in common.

A model's components are made to tell places apart. Principal components of both data sets
together also tell apart cells of different types in one place. Imports the arrays of the package.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.utils import gen_batches

from .._utils.counts import kind_of_values, library_sizes, log_normalize
from .._utils.matrix import column_moments

Array = NDArray[np.float64]

_N_COMPONENTS = 30
# Genes whose logarithms vary most in the locations.
_N_GENES = 2_000
# Rows of each data set that components and genes are chosen by.
_N_ROWS = 5_000
# Fewer genes than this in common are not enough to hide some.
_LEAST_GENES = 50
_MOST_HIDDEN = 200
# Of the rows of both data sets, those that express a gene that is hidden.
_LEAST_EXPRESSED = 0.05
# So many rows at the middle of the locations are added to each section of the cells, so that the
# middle of a few cells is not taken for that of a tissue.
_N_ADDED = 20
_ROWS_PER_CHUNK = 2_000


@dataclass(frozen=True, eq=False)
class _Logs:
    """Logarithms of normalized counts, as many columns at a time as are asked for."""

    X: Any
    # Label of the section of each row, where they are known.
    sections: NDArray[Any] | None

    def without(self, genes: NDArray[np.intp]) -> Self:
        """Some rows, with zeros for some genes."""
        X = self.X[self.some]
        if sparse.issparse(X):
            X.data[np.isin(X.indices, genes)] = 0
            X.eliminate_zeros()
        else:
            X[:, genes] = 0
        sections = None if self.sections is None else self.sections[self.some]
        return type(self)(X, sections)

    @cached_property
    def some(self) -> NDArray[np.intp]:
        """Rows to choose by."""
        last = self.X.shape[0] - 1
        return np.unique(np.linspace(0, last, min(last + 1, _N_ROWS)).astype(np.intp))

    @cached_property
    def _sizes(self) -> Array | None:
        """Library sizes, None where values are logarithms already."""
        if self.X.min() < 0 or kind_of_values(self.X) == "logarithms":
            return None
        return library_sizes(self.X)

    def at(self, columns: NDArray[np.intp], rows: Any = slice(None)) -> Any:
        """In single precision, in a matrix of its own."""
        part = self.X[rows][:, columns].astype(np.float32)
        if self._sizes is None:
            return part
        sizes = self._sizes
        target = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 1.0
        return log_normalize(part, target, sizes=sizes[rows], copy=False)


@dataclass(frozen=True, eq=False)
class Joint:
    """Expression of cells and locations.

    Attributes
    ----------
    cells, locations : _Logs
    genes : ndarray of int
        Columns that both data sets have.
    """

    cells: _Logs
    locations: _Logs
    genes: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        cells: Any,
        locations: Any,
        cell_sections: Any,
        location_sections: Any,
        missing: NDArray[np.bool_] | None,
    ) -> Self | None:
        """Of two matrices with the same columns; None where too few genes are in both.

        Parameters
        ----------
        cells : {ndarray, CSR matrix} of shape (n_cells, n_genes)
        locations : {ndarray, CSR matrix} of shape (n_locations, n_genes)
        cell_sections, location_sections : array-like, optional
            Labels of sections.
        missing : ndarray of shape (n_genes,), dtype bool, optional
            Genes that the cells lack.
        """
        if cells.shape[1] != locations.shape[1]:
            return None
        joint = cls(
            _Logs(cells, None if cell_sections is None else np.asarray(cell_sections)),
            _Logs(locations, None if location_sections is None else np.asarray(location_sections)),
            np.arange(cells.shape[1]),
        )
        shared = np.minimum(*joint._expressed) > 0
        if missing is not None:
            shared &= ~missing
        genes = np.flatnonzero(shared)
        if len(genes) < _LEAST_GENES:
            return None
        return cls(joint.cells, joint.locations, genes)

    @property
    def _expressed(self) -> tuple[Array, Array]:
        """Share of the rows that express each gene, in each data set."""
        cells, locations = (
            np.asarray((part.X[part.some][:, self.genes] != 0).mean(axis=0)).ravel()
            for part in (self.cells, self.locations)
        )
        return cells, locations

    def hide(self) -> tuple[Self, NDArray[np.intp]] | None:
        """Some rows without a fifth of the genes, and these; None if too few are common."""
        common = self.genes[np.minimum(*self._expressed) >= _LEAST_EXPRESSED]
        n = min(len(common) // 5, _MOST_HIDDEN)
        if n < _LEAST_GENES // 5:
            return None
        hidden = np.sort(np.random.default_rng(0).permutation(common)[:n])
        parts = self.cells.without(hidden), self.locations.without(hidden)
        return type(self)(*parts, np.setdiff1d(self.genes, hidden)), hidden

    def components(self) -> tuple[Array, Array]:
        """Principal components of both, each centered by itself.

        Returns
        -------
        cells : ndarray of shape (n_cells, n_components)
        locations : ndarray of shape (n_locations, n_components)
        """
        own = self.locations.at(self.genes, self.locations.some)
        variance = column_moments(own)[1]
        genes = self.genes[np.sort(np.argsort(-variance, kind="stable")[:_N_GENES])]
        both = self.cells, self.locations
        directions = _directions([part.at(genes, part.some) for part in both])
        found = []
        for part in both:
            batches = gen_batches(part.X.shape[0], _ROWS_PER_CHUNK)
            found.append(np.concatenate([part.at(genes, rows) @ directions for rows in batches]))
        cells, locations = found
        middle = locations.mean(axis=0)
        return (
            _centered(cells, self.cells.sections, middle, _N_ADDED),
            _centered(locations, self.locations.sections, middle, 0),
        )


def _centered(values: Array, sections: NDArray[Any] | None, middle: Array, n_added: int) -> Array:
    """Each section around its own middle."""
    values = values.copy()
    parts = [slice(None)] if sections is None else [sections == s for s in np.unique(sections)]
    for own in parts:
        n = len(values[own])
        values[own] -= (values[own].sum(axis=0) + n_added * middle) / (n + n_added)
    return values


def _directions(parts: list[Any]) -> Array:
    """Directions of the most variance, within the parts together.

    Parameters
    ----------
    parts : list of {ndarray, CSR matrix} of shape (n_rows, n_genes)

    Returns
    -------
    ndarray of shape (n_genes, n_components)
    """
    n_genes = parts[0].shape[1]
    if n_genes <= 2 * _N_COMPONENTS:
        return np.eye(n_genes)
    means = [np.asarray(part.mean(axis=0), dtype=np.float64).ravel() for part in parts]

    def spread(direction: Array) -> Array:
        direction = direction.ravel()
        total = np.zeros(n_genes)
        for part, mean in zip(parts, means, strict=True):
            along = part @ direction - mean @ direction
            total += part.T @ along - mean * along.sum()
        return total

    operator = LinearOperator((n_genes, n_genes), matvec=spread, dtype=np.float64)
    # The tolerance is far below what distances among cells depend on.
    start = np.random.default_rng(0).standard_normal(n_genes)
    # Those of least variance come first.
    return np.asarray(eigsh(operator, _N_COMPONENTS, v0=start, tol=1e-4)[1][:, ::-1])
