"""Read sections from AnnData objects, and from files and folders of many formats.

May import `_utils`.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch

from .._utils.arrays import naming
from .._utils.validation import check_sections, label_text
from .._utils.warn import warn
from ._cleaning import clean
from ._formats import ANNDATA_READERS, SECTION_READERS, format_of
from ._gene_matching import quote
from ._genes import align_genes, other_names
from ._layers import find_expression, gene_table, layer_of_counts, quote_all
from ._positions import SPATIAL_KEY, as_positions, find_positions
from ._section import raw_section
from ._section_labels import SECTION_KEY, warn_of_unnamed_sections
from ._sources import named_sources

logger = logging.getLogger(__name__)


def read_sections(
    source: Any,
    *,
    layer: str | None = None,
    spatial_key: str | None = SPATIAL_KEY,
    section_key: str | None = SECTION_KEY,
) -> Bunch:
    """Read one or several sections: expression, positions, names of genes and sections.

    Parameters
    ----------
    source : path, AnnData, SpatialData, MuData, or several of these
        Where the sections come from. What a path holds is told by its content:

        * an :class:`anndata.AnnData`, or a file or folder that holds one: ``.h5ad``, also
          compressed by gzip, ``.zarr``, a SpatialData of one table, ``.h5mu``, ``.loom``;
        * a folder of Space Ranger (the sample, ``outs``, one bin size, segmented cells, the
          result of ``aggr``) or Cell Ranger, or a matrix in it, in ``.h5`` or Matrix Market
          format. Positions are (column, row) in pixels of the full image. There are none if
          there is no folder ``spatial``;
        * an output folder of Xenium, CosMx or MERSCOPE, or the matrix in it;
        * a table of counts of Slide-seq or Spatial Transcriptomics;
        * several: a list, a generator, a Series, a pattern such as ``"sections/*.h5ad"``, or a
          dict by name. Their cells are concatenated, with the genes that all sources have, in
          the order of the first.
    layer : str, default=None
        Layer of the AnnData that holds the expression. None means ``.X``. ``"raw"`` means
        ``.raw.X``, unless a layer has this name. ``"auto"`` is the first of ``.X``, the layer
        "counts" and ``.raw.X`` that holds whole numbers, with a warning if that is not ``.X``.
    spatial_key : str or None, default="spatial"
        Key of ``.obsm`` that holds the positions. If the default key is absent, positions that
        are in one other known place are taken, such as ``.obsm["X_spatial"]`` or the columns x
        and y of ``.obs``. Any other key must exist. With None, positions are not read.
    section_key : str or None, default="section"
        Column of ``.obs`` that holds the labels of sections. If the default column is absent, or
        with None, each source is one section, named by its key in the dict or its file name. Any
        other column must exist.

    Returns
    -------
    sections : :class:`~sklearn.utils.Bunch`
        With the attributes

        X : csr_matrix of shape (n_cells, n_genes)
            Expression as stored, usually counts.
        coords : ndarray of shape (n_cells, n_dims), dtype float64, or None
            Positions in the units of the source. None if the source has no positions.
        genes : ndarray of shape (n_genes,), dtype str
            Names of the genes, made unique.
        gene_ids : ndarray of shape (n_genes,), dtype str, or None
            Other names: identifiers, as a rule.
        sections : ndarray of shape (n_cells,), dtype str
            Section of each cell.
        obs_names : ndarray of shape (n_cells,), dtype str
            Barcodes or names of the cells. They are prefixed by the source if several sources
            share names.
        layer : str or None
            The layer that was taken.
        report : dict
            What was left out or renamed, see below; for each source if there are several.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a folder lacks the matrix or the positions.
    ValueError
        If there is no such layer, spatial key or section key (the message lists what there is),
        positions may be in several places, a file is damaged or of a format that is not read,
        cells have no section label, or sources have no gene in common, or
        only some of them have positions.
    TypeError
        If `source` is of another type.
    ImportError
        If a package of the extra ``anndata`` is missing.

    Warns
    -----
    UserWarning
        If features that are not genes (antibodies, guides, control probes), barcodes off the
        tissue, or cells without counts are left out; if names of genes or cells are repeated:
        an identifier or ``-1``, ``-2``, ... is appended; if positions are taken from another
        place than ``spatial_key``; if the default column is absent and something else tells
        sections apart.

    See Also
    --------
    align_genes : Bring a query's genes into the order of a reference's.
    fetch_visium : Download one of 27 public sections.

    Examples
    --------
    >>> from anndata import AnnData
    >>> from sklearn_dpvae.datasets import make_tissue, read_sections
    >>> tissue = make_tissue(n_cells=100, n_genes=20, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> section = read_sections({"cortex": adata})
    >>> section.X.shape, section.coords.shape, section.sections[0].item()
    ((100, 20), (100, 2), 'cortex')
    """
    parts = {}
    for name, part in named_sources(source).items():
        parts[name], notes = _read(part, name, layer, spatial_key, section_key)
        logger.info("%s: %d cells, %d genes %s", name, *parts[name].X.shape, parts[name].report)
        if notes:
            warn(f"{name}: {'; '.join(notes)}.")
    return next(iter(parts.values())) if len(parts) == 1 else _concatenate(parts)


def open_source(source: Any) -> Any:
    """Open a path: an AnnData of what holds one, else a raw section of its own format.

    Parameters
    ----------
    source : Path or AnnData

    Returns
    -------
    AnnData or Bunch
        An AnnData is returned as it is.
    """
    if not isinstance(source, Path):
        return source
    kind = format_of(source)
    logger.info("reading %s as %s", source, kind)
    return (ANNDATA_READERS.get(kind) or SECTION_READERS[kind])(source)


def _read(
    source: Any, name: str, layer: str | None, spatial_key: str | None, section_key: str | None
) -> tuple[Bunch, list[str]]:
    """Read one source, and clean it."""
    if (
        layer not in (None, "auto")
        and isinstance(source, Path)
        and format_of(source) in SECTION_READERS
    ):
        raise ValueError(f"{source} is of a format that has no layers; got layer={layer!r}.")
    section = open_source(source)
    if isinstance(section, Bunch):
        if spatial_key is None:
            section.coords = None
    else:
        with naming(str(source) if isinstance(source, Path) else name):
            section = _from_anndata(section, name, layer, spatial_key, section_key)
    if section.sections is None:
        section.sections = np.full(len(section.obs_names), name)
    before = section.notes
    section, notes = clean(section, name)
    return section, [*before, *notes]


def _from_anndata(
    adata: Any, name: str, layer: str | None, spatial_key: str | None, section_key: str | None
) -> Bunch:
    """Take the parts out of an AnnData."""
    if layer == "auto":
        layer = layer_of_counts(adata, name)
    X, genes = find_expression(adata, name, layer)
    if getattr(adata, "isbacked", False):
        X = X[:]
    coords = None
    if spatial_key == SPATIAL_KEY:
        coords = find_positions(adata, name)
    elif spatial_key in adata.obsm:
        coords = as_positions(adata.obsm[spatial_key], f".obsm[{spatial_key!r}] of {name}")
    elif spatial_key is not None:
        raise ValueError(
            f"{name} has no positions spatial_key={spatial_key!r}; .obsm has "
            f"{quote_all(adata.obsm)}. Pass one of these keys."
        )
    if section_key is not None and section_key in adata.obs:
        codes, labels = check_sections(adata.obs[section_key], adata.n_obs)
        sections = np.array([label_text(label) for label in labels.tolist()])[codes]
    elif section_key in (None, SECTION_KEY):
        if section_key is not None:
            warn_of_unnamed_sections(adata, name)
        sections = None
    else:
        raise ValueError(
            f"{name} has no column section_key={section_key!r}; .obs has "
            f"{quote_all(adata.obs)}. Pass one of these columns."
        )
    table = gene_table(adata, layer)
    feature_types = next((table[k] for k in ("feature_types", "feature_type") if k in table), None)
    return raw_section(
        X,
        genes,
        adata.obs_names,
        gene_ids=other_names(table),
        feature_types=feature_types,
        coords=coords,
        sections=sections,
        in_tissue=_in_tissue(adata),
        layer=layer,
    )


def _in_tissue(adata: Any) -> Any:
    """Whether the spots of Visium are under tissue, where there is a column that tells."""
    if "in_tissue" not in adata.obs:
        return None
    values = [str(value).strip().lower() for value in adata.obs["in_tissue"].tolist()]
    return np.isin(values, ["1", "1.0", "true", "t"])


def _concatenate(parts: dict[str, Bunch]) -> Bunch:
    """Concatenate the cells of several sources, with the genes that all of them have."""
    first, *others = parts.values()
    common = set(first.genes.tolist()).intersection(*(part.genes.tolist() for part in others))
    genes = np.array([gene for gene in first.genes.tolist() if gene in common])
    if len(genes) == 0:
        raise ValueError(
            "the sources have no gene in common: "
            + "; ".join(f"{name} has {quote(part.genes)}" for name, part in parts.items())
            + ". Read them separately."
        )
    placed = {name: None if p.coords is None else p.coords.shape[1] for name, p in parts.items()}
    if len(set(placed.values())) > 1:
        raise ValueError(
            "some sources have positions of another number of dimensions than others, or none ("
            + ", ".join(f"{name}: {n or 'no positions'}" for name, n in placed.items())
            + "). Read them separately."
        )
    for what in ("sections", "obs_names"):
        _prefix_shared(parts, what)
    return Bunch(
        X=sparse.vstack([align_genes(p.X, p.genes, genes) for p in parts.values()], format="csr"),
        coords=None
        if first.coords is None
        else np.concatenate([part.coords for part in parts.values()]),
        genes=genes,
        gene_ids=_common_ids(parts, genes),
        layer=first.layer if len({part.layer for part in parts.values()}) == 1 else None,
        sections=np.concatenate([part.sections for part in parts.values()]),
        obs_names=np.concatenate([part.obs_names for part in parts.values()]),
        report={name: part.report for name, part in parts.items() if part.report},
    )


def _common_ids(parts: dict[str, Bunch], genes: np.ndarray) -> np.ndarray | None:
    """Identifiers of genes in which all sources agree; empty for the others."""
    found = None
    for part in parts.values():
        if part.gene_ids is None:
            return None
        column = {name: i for i, name in enumerate(part.genes.tolist())}
        ids = part.gene_ids[[column[name] for name in genes.tolist()]]
        found = ids if found is None else np.where(found == ids, found, "")
    return found


def _prefix_shared(parts: dict[str, Bunch], what: str) -> None:
    """Put the name of the source before labels if several sources use the same labels."""
    seen: set[str] = set()
    for part in parts.values():
        labels = set(part[what].tolist())
        if seen & labels:
            break
        seen |= labels
    else:
        return
    for name, part in parts.items():
        part[what] = np.array([f"{name}_{label}" for label in part[what].tolist()])
