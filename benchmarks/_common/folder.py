"""The data of tasks: a folder of sections, and which of their cells are split how."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from sklearn_dpvae.datasets import read_sections
from sklearn_dpvae.metrics import spot_spacing
from sklearn_dpvae.model_selection import SpatialBlockKFold

from .registration import registered
from .tasks import BLOCKS_PER_FOLD, parse_task

N_FOLDS = 5

# Genes that a panel is drawn from: as many, those with the most counts.
_PANEL_FROM = 1000

# Cells that a pseudo-spot sums where the tissue is as dense as around most cells.
_CELLS_PER_SPOT = 4

# Nearest neighbors by which that density is measured.
_N_NEAREST = 10


@dataclass(frozen=True)
class Split:
    """Cells with positions, and cells to place with the positions that are hidden from methods."""

    X: object
    coords: np.ndarray
    sections: np.ndarray
    query_X: object
    query_coords: np.ndarray
    query_sections: np.ndarray
    query_rows: np.ndarray
    new_section: bool
    # Whether the query is a part of a section, whose own statistics are not those of the whole.
    part: bool
    # Spot spacing of each query cell's whole section, the unit of errors.
    spacing: np.ndarray
    # Where the query cells lie in the frame of the reference; None if nobody knows.
    places: np.ndarray | None


class Folder:
    """The sections of a folder of .h5ad files, read when they are needed."""

    def __init__(self, path):
        self.path = Path(path)
        self.files = sorted(p.stem for p in self.path.glob("*.h5ad"))
        if not self.files:
            raise FileNotFoundError(f"{self.path} holds no .h5ad file.")
        self._read = {}

    def default_tasks(self):
        """Every kind of task on everything: what is run when no task is named."""
        tasks = []
        for file in self.files:
            sections = self.sections_of(file)
            for section in sections:
                tasks += [f"{file}:{section} random", f"{file}:{section} block"]
            tasks += [f"{file}:{a} > {b}" for a, b in pairwise(sections)]
            if len(sections) > 2:
                tasks.append(f"{file} loso")
        return [parse_task(text, files=self.files) for text in tasks]

    def sections_of(self, file):
        """Labels of a file's sections."""
        if file not in self.files:
            raise ValueError(f"{self.path} has no {file}.h5ad; it has {', '.join(self.files)}.")
        adata = self._adata(file)
        if "section" not in adata.obs:
            return [file]
        return sorted(adata.obs["section"].astype(str).unique())

    def _adata(self, file):
        if file not in self._read:
            import anndata

            self._read[file] = anndata.read_h5ad(self.path / f"{file}.h5ad")
        return self._read[file]

    def load(self, sources, dropped_genes=()):
        """Sections of sources below each other, with the genes that all of them have."""
        parts = {}
        for file, section in sources:
            for label in self.sections_of(file) if section is None else [section]:
                adata = self._adata(file)
                if label not in self.sections_of(file):
                    raise ValueError(
                        f"{file}.h5ad has no section {label!r}; it has "
                        f"{', '.join(self.sections_of(file))}."
                    )
                if "section" in adata.obs:
                    adata = adata[adata.obs["section"].astype(str) == label]
                parts[f"{file}:{label}"] = adata
        data = read_sections(parts, section_key=None)
        if data.coords is None:
            raise ValueError(f"{', '.join(parts)} have no positions in obsm['spatial'].")
        data.X = data.X[:, ~np.isin(data.genes, dropped_genes)]
        return data

    def splits(self, task, seed):
        """Yield the splits of a task: one, or one for each fold."""
        data = self.load(task.reference + task.query, task.dropped_genes)
        spacing = np.empty(len(data.coords))
        for section in np.unique(data.sections):
            rows = data.sections == section
            spacing[rows] = spot_spacing(data.coords[rows])
        places = self.places(task, data)
        rng = np.random.default_rng(seed)
        counts, data.X = data.X, harder_counts(data.X, task, rng)
        query_counts = data.X
        if task.query_percent is not None:
            query_counts = thin(data.X, task.query_percent / 100, rng)
        # Nobody can place a cell whose counts were all taken.
        emptied = (totals(counts, axis=1) > 0) & (totals(data.X, axis=1) == 0)
        query_emptied = (totals(counts, axis=1) > 0) & (totals(query_counts, axis=1) == 0)
        for reference, query in self.rows(task, data, seed):
            reference, query = reference[~emptied[reference]], query[~query_emptied[query]]
            query = self._part(query, task, data, rng)
            if task.n_cells is not None:
                reference = np.sort(rng.permutation(reference)[: task.n_cells])
            X, coords, sections = (
                values[reference] for values in (data.X, data.coords, data.sections)
            )
            if task.kind == "spots":
                X, coords, sections = sum_to_spots(X, coords, sections)
            yield Split(
                X=X,
                coords=coords,
                sections=sections,
                query_X=query_counts[query],
                query_coords=data.coords[query],
                query_sections=data.sections[query],
                query_rows=query,
                new_section=task.kind in ("loso", "transfer"),
                part=task.query_cuts is not None,
                spacing=spacing[query],
                places=None if places is None else places[query],
            )

    def places(self, task, data):
        """Positions of all cells in the frame of the reference."""
        if task.kind not in ("loso", "transfer"):
            return data.coords
        rows = list(self.rows(task, data, seed=0))
        if len(rows) > 1 or len(np.unique(data.sections)) != 2:
            return None
        reference, query = rows[0]
        found = registered(
            data.X[reference], data.coords[reference], data.X[query], data.coords[query]
        )
        if found is None:
            return None
        places = data.coords.copy()
        places[query] = found
        return places

    def _part(self, query, task, data, rng):
        """Rows of the query that the task keeps, of those that it could place."""
        if task.query_cuts is not None:
            kept = np.empty(len(query), dtype=bool)
            for section in np.unique(data.sections[query]):
                rows = data.sections[query] == section
                kept[rows] = one_part(data.coords[query[rows]], task.query_cuts, rng)
            query = query[kept]
        if task.query_label is not None:
            labels = self.labels(data, task.query_label)[query]
            values, sizes = np.unique(labels, return_counts=True)
            query = query[labels == values[sizes.argmax()]]
        return query

    def labels(self, data, column):
        """A column of `.obs` for all rows of `data`."""
        labels = np.empty(len(data.sections), dtype=object)
        for name in np.unique(data.sections):
            file, section = name.split(":", 1)
            obs = self._adata(file).obs
            if column not in obs:
                raise ValueError(f"{file}.h5ad has no obs[{column!r}]; it has {', '.join(obs)}.")
            if "section" in obs:
                obs = obs[obs["section"].astype(str) == section]
            labels[data.sections == name] = obs[column].astype(str)
        return labels

    def rows(self, task, data, seed):
        """Yield the rows of the reference and of the query: once, or for each fold."""
        n_cells = len(data.coords)
        if task.kind == "random":
            order = np.random.RandomState(seed).permutation(n_cells)
            yield order[n_cells // 5 :], order[: n_cells // 5]
        elif task.kind == "spots":
            order = np.random.RandomState(seed).permutation(n_cells)
            yield order[n_cells // 2 :], order[: n_cells // 2]
        elif task.kind in BLOCKS_PER_FOLD:
            splitter = SpatialBlockKFold(
                N_FOLDS, blocks_per_fold=BLOCKS_PER_FOLD[task.kind], random_state=seed
            )
            yield from splitter.split(data.X, data.coords, groups=data.sections)
        elif task.kind == "loso":
            for section in np.unique(data.sections):
                in_query = data.sections == section
                yield np.flatnonzero(~in_query), np.flatnonzero(in_query)
        else:
            names = {
                f"{file}:{label}"
                for file, section in task.query
                for label in (self.sections_of(file) if section is None else [section])
            }
            in_query = np.isin(data.sections, sorted(names))
            yield np.flatnonzero(~in_query), np.flatnonzero(in_query)


def harder_counts(X, task, rng):
    """Counts of a panel of genes, or a share of all counts, as the task asks for."""
    if task.n_genes is not None:
        most = np.argsort(-totals(X, axis=0), kind="stable")[:_PANEL_FROM]
        X = X[:, np.sort(rng.permutation(most)[: task.n_genes])]
    if task.percent is not None:
        X = thin(X, task.percent / 100, rng)
    return X


def thin(X, share, rng):
    """Counts of which each is kept with this probability."""
    X = X.copy()
    X.data = rng.binomial(X.data.astype(np.int64), share).astype(X.dtype)
    X.eliminate_zeros()
    return X


def one_part(coords, n_cuts, rng):
    """Whether each cell lies in a half of the tissue, or a half of that half.

    The first cut has a random direction, the next one is at right angles to it.
    """
    inside = np.ones(len(coords), dtype=bool)
    angle = rng.uniform(0, 2 * np.pi)
    for cut in range(n_cuts):
        turned = angle + cut * np.pi / 2
        along = coords[:, :2] @ [np.cos(turned), np.sin(turned)]
        inside &= along > np.median(along[inside])
    return inside


def sum_to_spots(X, coords, sections):
    """Counts of all cells in each square of a grid, at the square's middle."""
    groups = []
    middles = np.empty_like(coords)
    for code, section in enumerate(np.unique(sections)):
        rows = np.flatnonzero(sections == section)
        farthest = (
            NearestNeighbors(n_neighbors=_N_NEAREST).fit(coords[rows]).kneighbors()[0][:, -1]
        )
        area_of_cell = np.pi * np.median(farthest) ** 2 / _N_NEAREST
        side = np.sqrt(_CELLS_PER_SPOT * area_of_cell)
        squares = np.floor((coords[rows] - coords[rows].min(axis=0)) / side)
        middles[rows] = coords[rows].min(axis=0) + (squares + 0.5) * side
        groups.append(np.column_stack([np.full(len(rows), code), squares, rows]))
    table = np.vstack(groups)
    _, first, spot = np.unique(table[:, :-1], axis=0, return_index=True, return_inverse=True)
    rows = table[:, -1].astype(np.intp)
    sums = sparse.csr_matrix((np.ones(len(rows)), (spot.ravel(), rows))) @ X
    return sums.tocsr().astype(X.dtype), middles[rows[first]], sections[rows[first]]


def totals(X, axis):
    """Sums of a sparse matrix as an array."""
    return np.asarray(X.sum(axis=axis)).ravel()
