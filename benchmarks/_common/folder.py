"""The data of tasks: a folder of sections, and which of their cells are split how."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from sklearn_dpvae.datasets import read_sections
from sklearn_dpvae.metrics import spot_spacing
from sklearn_dpvae.model_selection import SpatialBlockKFold

from .tasks import BLOCKS_PER_FOLD, parse_task

N_FOLDS = 5

# Genes that a panel is drawn from: as many, those with the most counts.
_PANEL_FROM = 1000


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
    # Spot spacing of each query cell's whole section, the unit of errors.
    spacing: np.ndarray


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
        rng = np.random.default_rng(seed)
        counts, data.X = data.X, harder_counts(data.X, task, rng)
        # Nobody can place a cell whose counts were all taken.
        emptied = (totals(counts, axis=1) > 0) & (totals(data.X, axis=1) == 0)
        for reference, query in self._rows(task, data, seed):
            reference, query = reference[~emptied[reference]], query[~emptied[query]]
            if task.n_cells is not None:
                reference = np.sort(rng.permutation(reference)[: task.n_cells])
            yield Split(
                X=data.X[reference],
                coords=data.coords[reference],
                sections=data.sections[reference],
                query_X=data.X[query],
                query_coords=data.coords[query],
                query_sections=data.sections[query],
                query_rows=query,
                new_section=task.kind in ("loso", "transfer"),
                spacing=spacing[query],
            )

    def _rows(self, task, data, seed):
        n_cells = len(data.coords)
        if task.kind == "random":
            order = np.random.RandomState(seed).permutation(n_cells)
            yield order[n_cells // 5 :], order[: n_cells // 5]
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
        X = X.copy()
        X.data = rng.binomial(X.data.astype(np.int64), task.percent / 100).astype(X.dtype)
        X.eliminate_zeros()
    return X


def totals(X, axis):
    """Sums of a sparse matrix as an array."""
    return np.asarray(X.sum(axis=axis)).ravel()
