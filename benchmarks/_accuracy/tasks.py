"""Tasks: which cells are the reference and which are placed.

A task is written `SOURCES KIND` or `SOURCES > SOURCES`:

    embryo random            a random fifth of the cells is placed, for each seed another
    embryo block             each of 5 folds places 4 blocks of tissue
    embryo contiguous        each of 5 folds places one block, a fifth of the tissue
    brain loso               each section is placed by all others
    brain:Hippo1 > Hippo2    one section is placed by another
    brain:Hippo1+Hippo2 > Hippo3

A source is the name of a file without `.h5ad`, for all its sections, or `file:section`. A name
that is no file is a section of the file named before it.
"""

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


@dataclass(frozen=True)
class Task:
    """What to place by what. Sources are (file, section) pairs; section None means all."""

    label: str
    kind: str
    reference: tuple
    query: tuple = ()
    dropped_genes: tuple = ()

    @property
    def split_depends_on_seed(self):
        return self.kind not in ("loso", "transfer")


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
    return Task(label or text, kind, reference, query, tuple(dropped_genes))


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
        for reference, query in self._rows(task, data, seed):
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
