"""Genes, labels and cells on the tissue, by names. Imports the positions and the mapping."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import __version__, mapping
from .._spatial_model import as_spatial_model
from .._spatial_model.layers import layer_of_query
from .._utils.matrix import in_memory
from .._utils.optional import import_optional
from ..datasets._containers import is_spatialdata, pick_table, table_of
from ..datasets._gene_matching import quote
from ..datasets._genes import MIN_SHARE
from ..datasets._layers import find_expression
from ..datasets._positions import is_located
from ..mapping._telling import Telling
from ._positions import _known_positions, _query, _sections, _table

_COMPONENTS = "dpvae_components"
_TELLINGS = ("told_on_locations", "told_in_cells")
_SPATIAL = "spatial"


def map(
    model: Any,
    query: Any,
    reference: Any = None,
    *,
    by: str = "expression",
    capacity: str | ArrayLike | None = None,
    layer: str | None = "auto",
    section_key: str | None = "auto",
    spatial_key: str | None = None,
    table: str | None = None,
    coordinate_system: str | None = None,
    min_share: float = MIN_SHARE,
) -> Any:
    """Map the cells of an AnnData to the locations of another one.

    Parameters
    ----------
    model : SpatialModel or estimator
        What `fit` returned, or a fitted pipeline with `feature_names_in_`.
    query : AnnData, SpatialData or MuData
        Cells to map, in memory. It is not modified. Of a SpatialData, it is the only table, and
        of a MuData the modality of gene expression; pass another one itself.
    reference : AnnData, SpatialData or MuData, default=None
        Locations, with expression and positions; as a rule what the model was fitted on. Those
        without a position are left out. None are the cells that the model keeps, 2,000 at most.
    by : {"expression", "place"}, default="expression"
        See `sklearn_dpvae.mapping.map_cells`.
    capacity : str, int or array-like of shape (n_locations,), default=None
        Most cells of each location, or of all of them together; or the column of
        ``reference.obs`` that says it.
    layer : str or None, default="auto"
        Layer of both that holds the expression, see `predict`.
    section_key : str or None, default="auto"
        Column of ``.obs`` of both that holds the section, see `predict`.
    spatial_key : str, default=None
        Key of ``reference.obsm`` that holds the positions. None is the one that the model was
        fitted on.
    table : str, default=None
        Table of a SpatialData, or modality of a MuData, that `reference` is.
    coordinate_system : str, default=None
        Of a SpatialData. None is the one that the model was fitted in.
    min_share : float, default=0.05
        See `predict`.

    Returns
    -------
    AnnData
        Cells x locations: ``.X`` is the matrix of `CellMapping`, ``.obs`` that of the query,
        ``.var`` the ``.obs`` of the reference, ``.varm["spatial"]`` the positions, and
        ``.uns["dpvae"]`` says how it was made. By expression and without a capacity, components
        of both are in ``.obsm["dpvae_components"]`` and ``.varm["dpvae_components"]``. It can be
        written to a file.

    Raises
    ------
    ValueError
        If a layer or key is not there, too few genes are common, or `capacity` does not fit.

    See Also
    --------
    project_genes, impute_genes, project_labels, transfer_labels : What it is for.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.obs_names, adata.var_names = tissue.obs_names, tissue.genes
    >>> model = dpa.fit(adata[:150], max_epochs=2, random_state=0)
    >>> mapped = dpa.map(model, adata[150:], adata[:150])
    >>> mapped.shape
    (50, 150)
    """
    anndata = import_optional("anndata", extra="anndata", purpose="mapping cells")
    pandas = import_optional("pandas", extra="anndata", purpose="mapping cells")
    model = as_spatial_model(model)
    query = _table(query)
    X, known, _ = _query(model, query, layer, section_key)
    place: dict[str, Any] = {}
    var = None
    if reference is not None:
        if coordinate_system is None and is_spatialdata(reference):
            coordinate_system = model.coordinate_system
        reference = table_of(reference, table, coordinate_system)
        coords = _known_positions(reference, spatial_key or model.spatial_key)
        located = is_located(coords)
        of_layer = layer_of_query(reference, model) if layer == "auto" else layer
        expression, genes = find_expression(reference, "reference", of_layer)
        aligned, _ = model.align(in_memory(expression[:])[located], genes, min_share=min_share)
        place["reference"] = aligned, coords[located]
        labels = _sections(reference, section_key, model.section_key)
        place["reference_sections"] = None if labels is None else labels[located]
        var = reference.obs[located].copy()
        if isinstance(capacity, str):
            capacity = np.asarray(_column(reference.obs, capacity, "capacity", "reference.obs"))
            capacity = capacity[located]
    if isinstance(capacity, str):
        raise ValueError(f"capacity={capacity!r} names a column of a reference. Pass that, too.")
    found = mapping.map_cells(
        model,
        in_memory(X[:]),
        by=by,
        capacity=capacity,
        min_share=min_share,
        **known,
        **place,
    )
    if var is None:
        var = pandas.DataFrame(index=[f"location_{i}" for i in range(len(found.locations))])
        if found.sections is not None:
            var["section"] = found.sections.astype(str)
    mapped = anndata.AnnData(found.matrix, obs=query.obs.copy(), var=var)
    mapped.varm[_SPATIAL] = found.locations
    if found.by_likeness:
        mapped.obsm[_COMPONENTS] = found.cell_components
        mapped.varm[_COMPONENTS] = found.location_components
    mapped.uns["dpvae"] = {
        "version": __version__,
        "by": by,
        "with_capacity": capacity is not None,
        "unit": model.unit or "unknown",
    } | {
        name: way.as_array()
        for name, way in zip(_TELLINGS, found.tellings, strict=True)
        if way is not None
    }
    return mapped


def project_genes(
    mapped: Any, query: Any, genes: ArrayLike | None = None, *, layer: str | None = None
) -> Any:
    """What genes of the mapped cells look like on the tissue.

    Parameters
    ----------
    mapped : AnnData
        What `map` returned.
    query : AnnData
        The cells that were mapped, with genes that the reference lacks; best as logarithms of
        normalized counts. It is not modified.
    genes : list of str, default=None
        Names of genes; None takes all.
    layer : str, default=None
        Layer of the query; None is ``.X``.

    Returns
    -------
    AnnData
        Locations x genes, with ``.obsm["spatial"]``, for scanpy and squidpy.

    Raises
    ------
    ValueError
        If the cells are others than those that were mapped, or a gene is not there.

    See Also
    --------
    sklearn_dpvae.mapping.project_genes : What is done.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.obs_names, adata.var_names = tissue.obs_names, tissue.genes
    >>> model = dpa.fit(adata[:150, :40], max_epochs=2, random_state=0)
    >>> mapped = dpa.map(model, adata[150:], adata[:150])
    >>> dpa.project_genes(mapped, adata[150:], genes=tissue.genes[40:]).shape
    (150, 10)
    """
    values, var = _values(query, mapped.obs_names, genes, layer, "query", "cells")
    found = mapping.project_genes(as_mapping(mapped), values)
    return _with_positions(found, mapped.var, var, mapped)


def impute_genes(
    mapped: Any, reference: Any, genes: ArrayLike | None = None, *, layer: str | None = None
) -> Any:
    """What genes of the reference would be in the mapped cells.

    Parameters
    ----------
    mapped : AnnData
        What `map` returned.
    reference : AnnData
        The locations, with genes that the cells lack. It is not modified.
    genes, layer
        See `project_genes`.

    Returns
    -------
    AnnData
        Cells x genes.

    Raises
    ------
    ValueError
        If the locations are others than those that cells were mapped to, or a gene is not there.

    Examples
    --------
    See `project_genes`.
    """
    values, var = _values(reference, mapped.var_names, genes, layer, "reference", "locations")
    found = mapping.impute_genes(as_mapping(mapped), values)
    return _with_positions(found, mapped.obs, var, None)


def project_labels(
    mapped: Any, adata: Any, key: str, *, counts: bool = False, table: str | None = None
) -> None:
    """Write which kinds of cells there are in each location.

    Parameters
    ----------
    mapped : AnnData
        What `map` returned.
    adata : AnnData or SpatialData
        The locations: the reference, or what `project_genes` returned. It is written into.
    key : str
        Column of ``mapped.obs`` that holds the kinds.
    counts : bool, default=False
        Whether to count cells, see `sklearn_dpvae.mapping.project_labels`.
    table : str, default=None
        Table of a SpatialData, by default the only one.

    Notes
    -----
    These are written, with NaN for locations that were left out:

    ``.obsm["dpvae_KEY"]`` : DataFrame of shape (n_locations, n_kinds)
        Share of each kind, or number of cells.
    ``.obsm["dpvae_KEY_std"]`` : DataFrame of shape (n_locations, n_kinds)
        Its standard deviation.
    ``.obs["dpvae_KEY"]`` : category
        The kind with the largest share.

    Raises
    ------
    ValueError
        If the locations are others than those that cells were mapped to, or there is no such
        column.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.obs_names, adata.var_names = tissue.obs_names, tissue.genes
    >>> adata.obs["cell_type"] = ["neuron", "glia"] * 100
    >>> model = dpa.fit(adata[:150], max_epochs=2, random_state=0)
    >>> reference = adata[:150].copy()
    >>> mapped = dpa.map(model, adata[150:], reference)
    >>> dpa.project_labels(mapped, reference, "cell_type")
    >>> reference.obsm["dpvae_cell_type"].shape
    (150, 2)
    """
    labels = _column(mapped.obs, key, "key", "mapped.obs")
    found = mapping.project_labels(as_mapping(mapped), np.asarray(labels), counts=counts)
    target = pick_table(adata, table) if is_spatialdata(adata) else adata
    _write_shares(target, mapped.var_names, key, found, "locations")


def transfer_labels(mapped: Any, adata: Any, key: str) -> None:
    """Write which layer, domain or type of the reference each cell belongs to.

    Parameters
    ----------
    mapped : AnnData
        What `map` returned.
    adata : AnnData
        The cells that were mapped. It is written into.
    key : str
        Column of ``mapped.var`` that holds the labels of the locations.

    Notes
    -----
    The same keys are written as by `project_labels`, with probabilities.

    Raises
    ------
    ValueError
        If the cells are others than those that were mapped, or there is no such column.

    Examples
    --------
    See `project_labels`.
    """
    labels = _column(mapped.var, key, "key", "mapped.var")
    found = mapping.transfer_labels(as_mapping(mapped), np.asarray(labels))
    _write_shares(adata, mapped.obs_names, key, found, "cells")


def as_mapping(mapped: Any) -> mapping.CellMapping:
    """The mapping that an AnnData of `map` holds."""
    if "dpvae" not in mapped.uns or _SPATIAL not in mapped.varm:
        raise ValueError(
            "mapped is no AnnData of cells x locations. Pass what sklearn_dpvae.anndata.map "
            "returned."
        )
    ways = [mapped.uns["dpvae"].get(name) for name in _TELLINGS]
    on_locations, in_cells = (None if way is None else Telling.of_array(way) for way in ways)
    return mapping.CellMapping(
        in_memory(mapped.X[:]),
        np.asarray(mapped.varm[_SPATIAL]),
        cell_components=mapped.obsm.get(_COMPONENTS),
        location_components=mapped.varm.get(_COMPONENTS),
        tellings=(on_locations, in_cells),
    )


def _column(table: Any, key: str, argument: str, name: str) -> Any:
    if key not in table:
        raise ValueError(
            f"{name} has no column {argument}={key!r}; it has {', '.join(table) or 'none'}."
        )
    return table[key]


def _rows(adata: Any, names: Any, what: str) -> np.ndarray:
    """Rows of an AnnData by names, which are those of a mapping."""
    if len(adata.obs_names) == len(names) and (adata.obs_names == names).all():
        return np.arange(len(names))
    if not adata.obs_names.is_unique:
        raise ValueError("names of rows occur more than once. Call .obs_names_make_unique().")
    rows = adata.obs_names.get_indexer(names)
    lacking = np.asarray(names)[rows < 0]
    if len(lacking):
        raise ValueError(
            f"{len(lacking)} of {len(names)} {what} of the mapping are not there "
            f"({quote(lacking)}). Pass what was mapped."
        )
    return np.asarray(rows)


def _values(
    adata: Any, names: Any, genes: Any, layer: str | None, argument: str, what: str
) -> tuple[Any, Any]:
    """Values of some genes in the rows of a mapping, and what is known of the genes."""
    rows = _rows(adata, names, what)
    X, known = find_expression(adata, argument, layer)
    table = adata.raw.var if layer == "raw" and "raw" not in adata.layers else adata.var
    columns = np.arange(len(known))
    if genes is not None:
        wanted = np.atleast_1d(np.asarray(genes)).astype(str)
        where = {name: number for number, name in reversed(list(enumerate(known)))}
        lacking = [name for name in wanted if name not in where]
        if lacking:
            raise ValueError(
                f"{len(lacking)} of {len(wanted)} genes are not in the {argument} "
                f"({quote(lacking)})."
            )
        columns = np.array([where[name] for name in wanted], dtype=np.intp)
    return in_memory(X[:])[rows][:, columns], table.iloc[columns].copy()


def _with_positions(found: Any, obs: Any, var: Any, mapped: Any) -> Any:
    anndata = import_optional("anndata", extra="anndata", purpose="genes on the tissue")
    adata = anndata.AnnData(found.astype(np.float32), obs=obs.copy(), var=var)
    if mapped is not None:
        adata.obsm[_SPATIAL] = np.asarray(mapped.varm[_SPATIAL])
    return adata


def _write_shares(adata: Any, names: Any, key: str, found: mapping.LabelShares, what: str) -> None:
    pandas = import_optional("pandas", extra="anndata", purpose="labels on the tissue")
    rows = _rows(adata, names, what)
    classes = [str(label) for label in found.classes]
    for name, values in ((f"dpvae_{key}", found.values), (f"dpvae_{key}_std", found.std)):
        table = np.full((adata.n_obs, len(classes)), np.nan)
        table[rows] = values
        adata.obsm[name] = pandas.DataFrame(table, index=adata.obs_names, columns=classes)
    best = np.full(adata.n_obs, None, dtype=object)
    best[rows] = found.best.astype(str)
    adata.obs[f"dpvae_{key}"] = pandas.Categorical(best, categories=classes)
