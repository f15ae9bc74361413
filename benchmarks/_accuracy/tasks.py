"""Tasks: which cells are the reference and which are placed.

A task is written `SOURCES KIND` or `SOURCES > SOURCES`:

    embryo random            a random fifth of the cells is placed, for each seed another
    embryo block             each of 5 folds places 4 blocks of tissue
    embryo contiguous        each of 5 folds places one block, a fifth of the tissue
    brain loso               each section is placed by all others
    brain:Hippo1 > Hippo2    one section is placed by another
    brain:Hippo1+Hippo2 > Hippo3

and can be made harder, by a draw that depends on the seed:

    embryo random with 120 genes     of the 1,000 that have the most counts
    embryo random with 10% counts    each count is kept with this probability
    embryo random with 300 cells     to place the others by

A source is the name of a file without `.h5ad`, for all its sections, or `file:section`. A name
that is no file is a section of the file named before it.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from sklearn_dpvae.datasets import read_sections
from sklearn_dpvae.metrics import spot_spacing
from sklearn_dpvae.model_selection import SpatialBlockKFold

N_FOLDS = 5
# Blocks of a section that a fold tests on. With several, test cells lie nearer to the reference
# and all parts of the tissue are in every fold; with one, a whole region is missing.
BLOCKS_PER_FOLD = {"block": 4, "contiguous": 1}
KINDS = ("random", *BLOCKS_PER_FOLD, "loso", "transfer")

# Genes that a panel is drawn from: as many, those with the most counts.
_PANEL_FROM = 1000

# What a task can be made harder by: field of `Task`, and how it is written.
HARDER = {"n_genes": r"(\d+) genes", "percent": r"(\d+)% counts", "n_cells": r"(\d+) cells"}

_BRAIN = "mouse_brain_st2k"
# Nuclear and mitochondrial RNA that swamps the brain's sections.
_BRAIN_DROPPED = ("Gm42418", "Rn18s-rs5", "mt-Rnr1", "mt-Rnr2")
PRESETS = {
    "ten": {
        "embryo random": ("mouse_embryo_visium random", ()),
        "embryo block": ("mouse_embryo_visium block", ()),
        "hippo1 random": (f"{_BRAIN}:Hippo1 random", _BRAIN_DROPPED),
        "hippo1>2": (f"{_BRAIN}:Hippo1 > Hippo2", _BRAIN_DROPPED),
        "hippo3>4": (f"{_BRAIN}:Hippo3 > Hippo4", _BRAIN_DROPPED),
        "seqFISH+ random": ("mouse_cortex_seqfishplus random", ()),
        "DBiT random": ("human_dbit random", ()),
        "synovium random": ("human_synovium_st:RA4_1 random", ()),
        "synovium 1>2": ("human_synovium_st:RA4_1 > RA4_2", ()),
        "bulb 1>2": ("mouse_olfactory_bulb_st2k:MOB1 > MOB2", ()),
    },
    "more": {
        "embryo contiguous": ("mouse_embryo_visium contiguous", ()),
        "hippo1 block": (f"{_BRAIN}:Hippo1 block", _BRAIN_DROPPED),
        "DBiT block": ("human_dbit block", ()),
        "brain loso": (f"{_BRAIN} loso", _BRAIN_DROPPED),
        "brain 1+3>2": (f"{_BRAIN}:Hippo1+Hippo3 > Hippo2", _BRAIN_DROPPED),
    },
}

# The same tissues under conditions that the defaults were not made for.
_TISSUES = (
    "embryo random",
    "hippo1 random",
    "hippo3>4",
    "seqFISH+ random",
    "DBiT random",
    "synovium 1>2",
)
PRESETS["harder"] = {
    f"{label} with {harder}": (
        f"{PRESETS['ten'][label][0]} with {harder}",
        PRESETS["ten"][label][1],
    )
    for harder in ("120 genes", "10% counts", "300 cells")
    for label in _TISSUES
}


@dataclass(frozen=True)
class Task:
    """What to place by what. Sources are (file, section) pairs; section None means all."""

    label: str
    kind: str
    reference: tuple
    query: tuple = ()
    dropped_genes: tuple = ()
    # Of the reference and the query; None for all of them.
    n_genes: int | None = None
    percent: int | None = None
    n_cells: int | None = None

    @property
    def split_depends_on_seed(self):
        harder = (self.n_genes, self.percent, self.n_cells) != (None, None, None)
        return harder or self.kind not in ("loso", "transfer")


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


def parse_task(text, label=None, dropped_genes=(), *, files=None):
    """Read a task in the notation of this module; `files` are the names that are files."""
    text = text.strip()
    label = label or text
    text, _, condition = text.partition(" with ")
    harder = {
        field: int(found[1])
        for field, pattern in HARDER.items()
        if (found := re.fullmatch(pattern, condition.strip()))
    }
    if condition and not harder:
        raise ValueError(
            f"task {label!r} is made harder 'with N genes', 'with N% counts' or 'with N cells'."
        )
    if ">" in text:
        kind = "transfer"
        left, right = (side.strip() for side in text.split(">", 1))
    else:
        left, _, kind = text.rpartition(" ")
        right = ""
        if kind not in KINDS[:-1]:
            raise ValueError(
                f"task {text!r} must end in one of {', '.join(KINDS[:-1])}, or contain '>'."
            )
    reference, last_file = _parse_sources(left, None, files, text)
    query, _ = _parse_sources(right, last_file, files, text) if right else ((), None)
    if kind == "transfer" and not query:
        raise ValueError(f"task {text!r} names nothing to place after '>'.")
    return Task(label, kind, reference, query, tuple(dropped_genes), **harder)


def _parse_sources(text, last_file, files, task):
    sources = []
    for term in filter(None, (t.strip() for t in text.split("+"))):
        if ":" in term:
            last_file, section = term.split(":", 1)
            sources.append((last_file, section))
        elif last_file is not None and (files is None or term not in files):
            sources.append((last_file, term))
        else:
            last_file = term
            sources.append((term, None))
    if not sources:
        raise ValueError(f"task {task!r} names no section.")
    return tuple(sources), last_file


def preset(name):
    """Tasks of a preset."""
    return [parse_task(text, label, dropped) for label, (text, dropped) in PRESETS[name].items()]


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
