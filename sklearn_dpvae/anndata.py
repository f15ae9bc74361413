"""Fit and predict on AnnData: layers and keys by name, genes aligned by name.

Needs the extra ``anndata``. Tables of SpatialData are AnnData, so these functions take them as
they are. Stands on the pipeline and the readers.
"""

import inspect
import json
import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from . import __version__
from ._spatial_model import CHUNK_SIZE, SpatialModel, as_spatial_model
from ._utils.counts import kind_of_values
from ._utils.routing import routing_is_on, takes
from .datasets import read_sections
from .datasets._genes import make_unique, quote
from .datasets._positions import located_cells
from .datasets._readers import SECTION_KEY, SPATIAL_KEY, find_expression
from .pipeline import make_spatial_pipeline
from .places import PlaceDistribution

__all__ = ["fit", "predict", "predict_places"]


def fit(
    adata: Any,
    pipeline: Any = None,
    *,
    layer: str | None = None,
    spatial_key: str = SPATIAL_KEY,
    section_key: str | None = SECTION_KEY,
    unit: str | None = None,
    **pipeline_params: Any,
) -> SpatialModel:
    """Fit a pipeline on the cells of an AnnData and their positions.

    Parameters
    ----------
    adata : AnnData
        The reference: raw counts, for the recommended pipeline. It is not modified.
    pipeline : estimator, default=None
        What to fit, in place. None makes the recommended one.
    layer : str, default=None
        Layer that holds the expression: None is ``.X``, ``"raw"`` is ``.raw.X`` unless a layer
        has this name. ``"auto"`` takes the first of ``.X``, the layer "counts" and ``.raw.X``
        that holds whole numbers, and warns if that is not ``.X``. The model's `layer` tells
        which one it was.
    spatial_key : str, default="spatial"
        Key of ``.obsm`` that holds the positions, in any unit. Cells without one, whose row has
        NaN, are left out with a warning. Where the default key is absent, other places are tried,
        see `read_sections`.
    section_key : str or None, default="section"
        Column of ``.obs`` that holds the section of each cell, ``"region"`` for many tables of
        SpatialData. With None, or where the default column is absent, there is one section.
    unit : str, default=None
        Unit of the positions, such as ``"µm"``, to be noted beside the predictions.
    **pipeline_params : dict
        Parameters of `make_spatial_pipeline`, where `pipeline` is None.

    Returns
    -------
    SpatialModel
        The fitted pipeline with the names of the genes, the layer and the keys. Identifiers of
        genes come from the column ``gene_ids`` of ``.var``, where there is one.

    Raises
    ------
    TypeError
        If both a pipeline and parameters of one are given.
    ValueError
        If a layer or key is not there (the message lists what is), or there are no positions.

    Warns
    -----
    UserWarning
        If there are labels of sections and the pipeline does not take any, there are none but
        something else tells sections apart, positions are taken from another place, or cells
        without a position are left out.

    See Also
    --------
    predict : Place the cells of another AnnData.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.var_names = tissue.genes
    >>> model = dpa.fit(adata[:150], max_epochs=2, random_state=0)
    >>> query = adata[150:].copy()
    >>> dpa.predict(model, query)
    >>> query.obsm["spatial_dpvae"].shape
    (50, 2)
    """
    if pipeline is None:
        pipeline = make_spatial_pipeline(**pipeline_params)
    elif pipeline_params:
        raise TypeError(
            f"got both a pipeline and parameters of one ({', '.join(pipeline_params)}). Set them "
            "on the pipeline by its set_params."
        )
    if layer == "auto":
        layer = _layer_of_counts(adata)
    data = read_sections(
        {"adata": adata}, layer=layer, spatial_key=spatial_key, section_key=section_key
    )
    if data.coords is None:
        raise ValueError(
            f"adata has no positions: there is no .obsm[{spatial_key!r}]. Name the key by "
            f"spatial_key=; .obsm has {', '.join(adata.obsm) or 'none'}, and .obs has "
            f"{', '.join(adata.obs) or 'none'}."
        )
    data = located_cells(data, "adata", "fitted")
    has_sections = section_key is not None and section_key in adata.obs
    sections = data.sections if has_sections else None
    pipeline.fit(data.X, data.coords, **_labels_for_fit(pipeline, sections))
    return SpatialModel.of(
        pipeline,
        data.X,
        data.genes,
        gene_ids=_gene_ids(adata, layer),
        unit=unit,
        layer=layer,
        spatial_key=spatial_key,
        section_key=section_key if has_sections else None,
    )


def predict(
    model: Any,
    adata: Any,
    *,
    layer: str | None = "auto",
    section_key: str | None = "auto",
    anchors_key: str | None = None,
    key_added: str = "dpvae",
    min_share: float = 0.5,
    chunk_size: int = CHUNK_SIZE,
    copy: bool = False,
) -> Any:
    """Place the cells of an AnnData, and write the positions into it.

    Genes are matched by name, and those that the model does not know are dropped. A warning counts
    those that the query lacks. Where `SectionScaler` z-scores them, they are taken to have the
    mean of the reference, else to be 0.

    Parameters
    ----------
    model : SpatialModel or estimator
        What `fit` returned, or a fitted pipeline with `feature_names_in_`.
    adata : AnnData
        The query. In backed mode its expression is read by chunks of rows, and results are kept
        in memory.
    layer : str or None, default="auto"
        Layer that holds the expression, as in `fit`. "auto" is the one that the model was
        fitted on, or ``.X`` where that is unknown.
    section_key : str or None, default="auto"
        Column of ``.obs`` that holds the section of each cell. "auto" is the one that the model
        was fitted on, where the query has it. None takes all cells for one section.
    anchors_key : str, default=None
        Key of ``.obsm`` that holds known positions, with NaN in the rows of all other cells.
        Known positions come back as they are, and the others are solved for with them.
    key_added : str, default="dpvae"
        Part of the names of what is written.
    min_share : float, default=0.5
        Share of the model's genes, between 0 and 1, that the query must have.
    chunk_size : int, default=10_000
        Rows that are read and preprocessed at a time.
    copy : bool, default=False
        Whether to write into a copy and return that.

    Returns
    -------
    AnnData or None
        The copy, if one is asked for. These are written:

        ``.obsm["spatial_dpvae"]`` : ndarray of shape (n_cells, n_dims)
            Positions, in the units of the reference.
        ``.obsm["X_dpvae"]`` : ndarray of shape (n_cells, n_components)
            Latent means, where the estimator has `transform`.
        ``.obs["dpvae_std"]`` : float
            Spread of each cell, in the units of the reference, where the estimator offers it.
        ``.uns["dpvae"]`` : dict
            Where this comes from: version of this package and of the one that fitted the model,
            parameters (as JSON), names of the model's genes and how many of them the query lacks,
            layer, and unit of the positions.

    Raises
    ------
    TypeError
        If the model does not know the names of its genes.
    ValueError
        If a layer or key is not there, or too few genes are common to both.

    Warns
    -----
    UserWarning
        If the query lacks genes, or has names of genes more than once.

    See Also
    --------
    fit : Fit a model on an AnnData.

    Examples
    --------
    See `fit`.
    """
    model = as_spatial_model(model)
    if copy:
        if adata.isbacked:
            raise ValueError(
                "copy=True would read a backed AnnData whole. Use adata.to_memory() for that, or "
                "copy=False, which leaves the file as it is."
            )
        adata = adata.copy()
    layer = model.layer if layer == "auto" else layer
    X, genes = find_expression(adata, "adata", layer)
    genes = _unique(genes)
    found = model.answers(
        X,
        genes=genes,
        sections=_sections(adata, section_key, model.section_key),
        anchors=_anchors(adata, anchors_key),
        min_share=min_share,
        chunk_size=chunk_size,
    )
    adata.obsm[f"spatial_{key_added}"] = found.coords
    if found.latents is not None:
        adata.obsm[f"X_{key_added}"] = found.latents
    if found.std is not None:
        adata.obs[f"{key_added}_std"] = found.std
    adata.uns[key_added] = _provenance(model, genes, layer)
    return adata if copy else None


def predict_places(
    model: Any,
    adata: Any,
    *,
    locations: Any = None,
    layer: str | None = "auto",
    section_key: str | None = "auto",
    min_share: float = 0.5,
    tolerance: float = 0.001,
) -> PlaceDistribution:
    """Say where each cell of an AnnData may be: a probability for every place.

    Parameters
    ----------
    model : SpatialModel or estimator
        What `fit` returned, or a fitted pipeline with `feature_names_in_`.
    adata : AnnData
        The query, in memory. It is not modified.
    locations : array-like of shape (n_locations, n_dims), default=None
        Places to choose from, such as ``.obsm["spatial"]`` of the reference; by default those
        of the reference's cells that the model keeps, 2,000 at most.
    layer, section_key, min_share
        See `predict`.
    tolerance : float, default=0.001
        Probability that may be left out of each row, to save memory.

    Returns
    -------
    PlaceDistribution
        Its `probabilities` is a CSR matrix of shape (n_cells, n_locations).

    Raises
    ------
    ValueError
        If a layer or key is not there, or too few genes are common to both.

    Warns
    -----
    UserWarning
        If the query lacks genes, or has names of genes more than once.

    See Also
    --------
    predict : One position for each cell.
    sklearn_dpvae.DPVAESpatialRegressor.predict_places : How probabilities come about.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.var_names = tissue.genes
    >>> model = dpa.fit(adata[:150], max_epochs=2, random_state=0)
    >>> dpa.predict_places(model, adata[150:]).probabilities.shape
    (50, 150)
    """
    model = as_spatial_model(model)
    X, genes = find_expression(adata, "adata", model.layer if layer == "auto" else layer)
    return model.predict_places(
        X,
        genes=_unique(genes),
        locations=locations,
        sections=_sections(adata, section_key, model.section_key),
        min_share=min_share,
        tolerance=tolerance,
    )


def _layer_of_counts(adata: Any) -> str | None:
    """The first place that holds whole numbers."""
    places: dict[str | None, Any] = {None: adata.X, "counts": adata.layers.get("counts")}
    places["raw"] = None if adata.raw is None else adata.raw.X
    for layer, X in places.items():
        if X is None:
            continue
        X = X[:200]
        if kind_of_values(sparse.csr_matrix(X)) == "counts":
            if layer is not None:
                warnings.warn(
                    f".X of adata does not hold whole numbers, so layer={layer!r} is taken. Name "
                    "a layer, or None for .X, to choose another.",
                    UserWarning,
                    stacklevel=3,
                )
            return layer
    raise ValueError(
        'layer="auto" found no whole numbers in .X, the layer "counts" or .raw of adata. Name the '
        f"layer that holds the counts; there are {', '.join(adata.layers) or 'none'}."
    )


def _gene_ids(adata: Any, layer: str | None) -> np.ndarray | None:
    from_raw = layer == "raw" and layer not in adata.layers and adata.raw is not None
    table = adata.raw.var if from_raw else adata.var
    return np.asarray(table["gene_ids"]) if "gene_ids" in table else None


def _unique(names: Any) -> np.ndarray:
    unique, repeated = make_unique(names)
    if repeated:
        warnings.warn(
            f"{len(repeated)} names of genes occur more than once in adata ({quote(repeated)}); "
            "the first of each is taken.",
            UserWarning,
            stacklevel=3,
        )
    return unique


def _sections(adata: Any, key: str | None, fitted_key: str | None) -> np.ndarray | None:
    if key == "auto":
        key = fitted_key if fitted_key in adata.obs else None
    if key is None:
        return None
    if key not in adata.obs:
        raise ValueError(
            f"adata has no column section_key={key!r}; .obs has {', '.join(adata.obs) or 'none'}."
        )
    return np.asarray(adata.obs[key])


def _anchors(adata: Any, key: str | None) -> np.ndarray | None:
    if key is None:
        return None
    if key not in adata.obsm:
        raise ValueError(
            f"adata has no positions anchors_key={key!r}; .obsm has "
            f"{', '.join(adata.obsm) or 'none'}."
        )
    return np.asarray(adata.obsm[key], dtype=np.float64)


def _labels_for_fit(pipeline: Any, sections: np.ndarray | None) -> dict[str, Any]:
    """The labels as a keyword of `fit`, which a search hands on as it is."""
    if sections is None:
        return {}
    parameters = inspect.signature(pipeline.fit).parameters.values()
    # A plain Pipeline reads keywords as names of steps.
    hands_on = not isinstance(pipeline, Pipeline) and any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters
    )
    if takes(pipeline, "fit", "sections") or (hands_on and not routing_is_on()):
        return {"sections": sections}
    warnings.warn(
        f"adata has labels of sections, but {type(pipeline).__name__} does not take them: all "
        "cells are taken for one section. make_spatial_pipeline and "
        "sklearn_dpvae.pipeline.SpatialPipeline do; section_key=None says that it is meant.",
        UserWarning,
        stacklevel=3,
    )
    return {}


def _provenance(model: SpatialModel, genes: np.ndarray, layer: str | None) -> dict[str, Any]:
    """Where results come from, in types that .h5ad files hold."""
    params = {
        name: value
        for name, value in model.pipeline.get_params().items()
        if not isinstance(value, BaseEstimator) and name != "steps"
    }
    return {
        "version": __version__,
        "model_version": model.version or "unknown",
        "estimator": type(model.pipeline).__name__,
        "params": json.dumps(params, default=repr),
        "genes": model.genes,
        "n_genes_missing": int((~np.isin(model.genes, genes)).sum()),
        "layer": "X" if layer is None else layer,
        "unit": model.unit or "unknown",
    }
