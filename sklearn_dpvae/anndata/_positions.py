"""Positions: fit, predict, score and learn more. Stands on the pipeline and the readers."""

import inspect
import json
import warnings
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from .. import __version__
from .._spatial_model import (
    CHUNK_SIZE,
    Answers,
    QueryCheck,
    SpatialModel,
    as_spatial_model,
    check_query,
)
from .._spatial_model.layers import (
    ignore_not_counts,
    layer_of_query,
    restrict_to_query,
    warn_of_logarithms,
)
from .._utils.matrix import in_memory
from .._utils.routing import routing_is_on, takes
from .._utils.searches import best_of
from .._utils.warn import warn
from ..datasets import read_sections
from ..datasets._containers import add_shapes, is_spatialdata, pick_table, table_of
from ..datasets._gene_matching import quote
from ..datasets._genes import MIN_SHARE, make_unique, other_names
from ..datasets._layers import (
    find_expression,
    gene_table,
)
from ..datasets._positions import (
    SPATIAL_KEY,
    as_positions,
    find_positions,
    is_located,
    located_cells,
)
from ..datasets._section_labels import SECTION_KEY, warn_of_pieces
from ..pipeline import SpatialPipeline, make_spatial_pipeline
from ..pipeline._expectation import CELLS_TO_DOUBT, say_doubts
from ..places import PlaceDistribution


def fit(
    adata: Any,
    pipeline: Any = None,
    *,
    layer: str | None = None,
    spatial_key: str = SPATIAL_KEY,
    section_key: str | None = SECTION_KEY,
    unit: str | None = None,
    query: Any = None,
    table: str | None = None,
    coordinate_system: str | None = None,
    **pipeline_params: Any,
) -> SpatialModel:
    """Fit a pipeline on the cells of an AnnData and their positions.

    Parameters
    ----------
    adata : AnnData, SpatialData or MuData
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
    query : AnnData, SpatialData or MuData, default=None
        Cells that are to be placed. The model is then fitted on the genes that both have, which
        is better for a panel than to lack most of the genes of the model, and for their depths,
        see `query_counts` of `SpatialPipeline.fit`. These are sums of the counts of the genes in
        common, from the first of ``.X``, the layer "counts" and ``.raw.X`` that holds whole
        numbers. Nothing else is learned from the query. Text, such as ``"same_section"``, is the
        parameter of `make_spatial_pipeline`.
    table : str, default=None
        Table of a SpatialData, or modality of a MuData, of the reference; by default the only one
        or that of gene expression, as always for the query.
    coordinate_system : str, default=None
        Coordinate system of a SpatialData. Positions are then the centroids of the shapes that
        the table annotates. None takes ``.obsm["spatial"]``, or "global" where it is absent.
    **pipeline_params : dict
        Parameters of `make_spatial_pipeline`, where `pipeline` is None.

    Returns
    -------
    SpatialModel
        The fitted pipeline with the names of the genes, the layer and the keys. Other names of
        genes come from a column of ``.var``, such as ``gene_ids`` or ``gene_name``, where there
        is one.

    Raises
    ------
    TypeError
        If both a pipeline and parameters of one are given.
    ValueError
        If a layer or key is not there (the message lists what is), there are no positions, or
        no gene is in both.

    Warns
    -----
    UserWarning
        If ``.X`` is not what the pipeline takes, there are labels of sections and the pipeline
        does not take any, there are none but something else tells sections apart, positions are
        taken from another place, or features or cells are left out, see `read_sections`.

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
    adata = table_of(adata, table, coordinate_system)
    if isinstance(query, str):
        pipeline_params["query"], query = query, None
    if pipeline is None:
        pipeline = make_spatial_pipeline(**pipeline_params)
    elif pipeline_params:
        raise TypeError(
            f"got both a pipeline and parameters of one ({', '.join(pipeline_params)}). Set them "
            "on the pipeline by its set_params."
        )
    said = layer is None and warn_of_logarithms(adata, pipeline)
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
    depths = None if query is None else restrict_to_query(data, _table(query))
    has_sections = section_key is not None and section_key in adata.obs
    sections = data.sections if has_sections else None
    if not has_sections and section_key is not None:
        warn_of_pieces(data.coords, "adata")
    with warnings.catch_warnings():
        if said:
            ignore_not_counts()
        given = _labels_for_fit(pipeline, sections)
        if depths is not None and isinstance(pipeline, SpatialPipeline):
            given["query_counts"] = depths
        pipeline.fit(data.X, data.coords, **given)
    return SpatialModel.of(
        pipeline,
        data.X,
        data.genes,
        gene_ids=data.gene_ids,
        unit=unit,
        layer=data.layer,
        spatial_key=spatial_key,
        section_key=section_key if has_sections else None,
        coordinate_system=coordinate_system,
    )


def predict(
    model: Any,
    adata: Any,
    *,
    layer: str | None = "auto",
    section_key: str | None = "auto",
    anchors_key: str | None = None,
    adapt: Literal["auto"] | bool = "auto",
    table: str | None = None,
    key_added: str = "dpvae",
    min_share: float = MIN_SHARE,
    level: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    copy: bool = False,
    verbose: bool = False,
) -> Any:
    """Place the cells of an AnnData, and write the positions into it.

    Genes are matched by identifiers and names, see `align_genes`, and those that the model does
    not know are dropped. A warning counts those that the query lacks of the genes that the model
    selected. Where `SectionScaler` z-scores them, they are taken to have the mean of the
    reference, else to be 0.

    Parameters
    ----------
    model : SpatialModel or estimator
        What `fit` returned, or a fitted pipeline with `feature_names_in_`.
    adata : AnnData, SpatialData or MuData
        The query. In backed mode its expression is read by chunks of rows, and results are kept
        in memory.
    layer : str or None, default="auto"
        Layer that holds the expression, as in `fit`. "auto" is the one that the model was
        fitted on, or ``.X`` where that is unknown. If the model was fitted on whole numbers, and
        this one does not hold any, it is the first of ``.X``, the layer "counts" and ``.raw.X``
        that does, with a warning.
    section_key : str or None, default="auto"
        Column of ``.obs`` that holds the section of each cell. "auto" is the one that the model
        was fitted on, where the query has it. None takes all cells for one section.
    anchors_key : str, default=None
        Key of ``.obsm`` that holds known positions, with NaN in the rows of all other cells.
        Known positions come back as they are, and the others are solved for with them.
    adapt : {"auto"} or bool, default="auto"
        Whether known positions teach more than the pose, see `DPVAESpatialRegressor.predict`.
    table : str, default=None
        Table of a SpatialData, or modality of a MuData, as in `fit`.
    key_added : str, default="dpvae"
        Part of the names of what is written.
    min_share : float, default=0.05
        Share of the genes that the model selected, between 0 and 1, that the query must have.
    level : float, default=None
        Probability with which the radius around the predicted position should hold the cell, such
        as 0.95. None writes no radii.
    chunk_size : int, default=10_000
        Rows that are read and preprocessed at a time.
    copy : bool, default=False
        Whether to write into a copy and return that.
    verbose : bool, default=False
        Whether a bar on stderr shows the progress of a large query.

    Returns
    -------
    AnnData or None
        The copy, if one is asked for, or a view such as ``adata[mask]``, which becomes an AnnData
        of its own. These are written, in place of those of an earlier call:

        ``.obsm["spatial_dpvae"]`` : ndarray of shape (n_cells, n_dims)
            Positions, in the units of the reference.
        ``.obsm["X_dpvae"]`` : ndarray of shape (n_cells, n_components)
            Latent means, where the estimator has `transform`.
        ``.obs["dpvae_std"]`` : float
            Spread of each cell, in the units of the reference, where the estimator offers it.
        ``.obs["dpvae_radius"]`` : float
            Radius around the predicted position, in the units of the reference, for a `level`.
        ``sdata.shapes["spatial_dpvae"]``
            Circles at the positions, where the query is a table of a SpatialData.
        ``.uns["dpvae"]`` : dict
            Where this comes from: version of this package and of the one that fitted the model,
            parameters (as JSON), names of the model's genes and how many of them the query lacks,
            layer, and unit of the positions.

    Raises
    ------
    TypeError
        If the model does not know the names of its genes.
    ValueError
        If a layer or key is not there, or the query has too few of the selected genes.

    Warns
    -----
    UserWarning
        If the query lacks selected genes, has names of genes more than once, genes are matched by
        other than equal names, or `check` says that positions should not be trusted.

    See Also
    --------
    fit : Fit a model on an AnnData.
    check : What may be expected, before cells are placed.

    Examples
    --------
    See `fit`.
    """
    model = as_spatial_model(model)
    container, adata = adata, _table(adata, table)
    if copy:
        if adata.isbacked:
            raise ValueError(
                "copy=True would read a backed AnnData whole. Use adata.to_memory() for that, or "
                "copy=False, which leaves the file as it is."
            )
        adata = adata.copy()
    is_view = adata.is_view
    if is_view and adata.isbacked:
        raise ValueError(
            "adata is a view of a backed AnnData, which cannot hold results. Pass "
            "adata.to_memory(), or the whole in backed mode."
        )
    X, known, layer = _query(model, adata, layer, section_key)
    anchors = _anchors(adata, anchors_key)
    found = model.answers(
        X,
        **known,
        anchors=anchors,
        adapt=adapt,
        min_share=min_share,
        chunk_size=chunk_size,
        verbose=verbose,
    )
    _warn_of_doubts(model, X, known)
    radii = None
    with warnings.catch_warnings():
        if level is not None:
            # Missing genes were said before.
            warnings.filterwarnings("ignore", message=r".* genes.* are missing in the query")
            radii = model.predict_radius(
                X[:], level=level, **known, anchors=anchors, adapt=adapt, min_share=0.0
            )
        # Writing into a view makes it an AnnData of its own.
        warnings.filterwarnings("ignore", message=r"(Trying to modify|Setting element).*view")
        _write(adata, key_added, found, radii, _provenance(model, found, layer))
    if is_spatialdata(container) and not copy:
        system = model.coordinate_system
        add_shapes(container, adata, f"spatial_{key_added}", found.coords, system)
    return adata if copy or is_view else None


def _table(data: Any, table: str | None = None) -> Any:
    """The AnnData that is meant, without a look at positions. It is no copy."""
    if is_spatialdata(data):
        return pick_table(data, table)
    return table_of(data, table)


def predict_places(
    model: Any,
    adata: Any,
    *,
    locations: Any = None,
    layer: str | None = "auto",
    section_key: str | None = "auto",
    anchors_key: str | None = None,
    adapt: Literal["auto"] | bool = "auto",
    min_share: float = MIN_SHARE,
    tolerance: float = 0.001,
) -> PlaceDistribution:
    """Say where each cell of an AnnData may be: a probability for every place.

    Parameters
    ----------
    model : SpatialModel or estimator
        What `fit` returned, or a fitted pipeline with `feature_names_in_`.
    adata : AnnData, SpatialData or MuData
        The query, in memory. It is not modified.
    locations : array-like of shape (n_locations, n_dims), default=None
        Places to choose from, such as ``.obsm["spatial"]`` of the reference; by default those
        of the reference's cells that the model keeps, 2,000 at most.
    layer, section_key, anchors_key, adapt, min_share
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
    adata = _table(adata)
    X, known, _ = _query(model, adata, layer, section_key)
    found: PlaceDistribution = model.predict_places(
        X[:],
        **known,
        locations=locations,
        anchors=_anchors(adata, anchors_key),
        adapt=adapt,
        min_share=min_share,
        tolerance=tolerance,
    )
    return found


def check(
    model: Any,
    adata: Any,
    *,
    layer: str | None = "auto",
    section_key: str | None = "auto",
    min_share: float = MIN_SHARE,
) -> QueryCheck:
    """Say what the cells of an AnnData may expect of a model, before they are placed.

    Parameters
    ----------
    model, adata, layer, section_key, min_share
        See `predict`.

    Returns
    -------
    QueryCheck
        See `sklearn_dpvae.check_query`.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(400, 60, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.var_names = tissue.genes
    >>> model = dpa.fit(adata[:300], max_epochs=5, random_state=0)
    >>> dpa.check(model, adata[300:]).trusted
    True
    """
    model = as_spatial_model(model)
    X, known, _ = _query(model, _table(adata), layer, section_key)
    return check_query(model, X, **known, min_share=min_share)


def _warn_of_doubts(model: SpatialModel, X: Any, known: dict[str, Any]) -> None:
    """Warn in one line where `check` would not trust positions, if enough cells can tell."""
    pipeline = best_of(model.pipeline)
    if not hasattr(pipeline, "held_out_") or X.shape[0] < CELLS_TO_DOUBT:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `predict` says the same.
        doubts = check_query(model, X, **known, min_share=0.0).doubts
    say_doubts(doubts, "sklearn_dpvae.anndata.check")


def score(
    model: Any,
    adata: Any,
    *,
    layer: str | None = "auto",
    spatial_key: str | None = None,
    section_key: str | None = "auto",
    min_share: float = MIN_SHARE,
) -> float:
    """Score a model on the cells of an AnnData whose positions are known.

    Parameters
    ----------
    model, adata, layer, section_key, min_share
        See `predict`.
    spatial_key : str, default=None
        Key of ``.obsm`` that holds the positions. None is the one that the model was fitted on.
        Cells without one are left out.

    Returns
    -------
    float
        1 - Procrustes disparity, for `DPVAESpatialRegressor`.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.var_names = tissue.genes
    >>> model = dpa.fit(adata[:150], max_epochs=2, random_state=0)
    >>> 0 < dpa.score(model, adata[150:]) < 1
    True
    """
    model = as_spatial_model(model)
    coords = _known_positions(adata, spatial_key or model.spatial_key)
    located = is_located(coords)
    if not located.any():
        raise ValueError("adata has no cell with a position to compare with.")
    X, known, _ = _query(model, adata, layer, section_key)
    if known["sections"] is not None:
        known["sections"] = known["sections"][located]
    return float(model.score(in_memory(X[:])[located], coords[located], **known,
                             min_share=min_share))  # fmt: skip


def partial_fit(
    model: Any,
    adata: Any,
    *,
    layer: str | None = "auto",
    spatial_key: str | None = None,
    section_key: str | None = "auto",
    min_share: float = MIN_SHARE,
) -> SpatialModel:
    """Fine-tune a model on located cells of another section.

    Parameters
    ----------
    model, adata, layer, section_key, min_share
        See `predict`.
    spatial_key : str, default=None
        Key of ``.obsm`` that holds the positions, with NaN in the rows of cells that are not
        located. None is the one that the model was fitted on.

    Returns
    -------
    SpatialModel
        A new one; `model` stays as it is.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.var_names = tissue.genes
    >>> model = dpa.fit(adata[:120], max_epochs=2, random_state=0)
    >>> tuned = dpa.partial_fit(model, adata[120:])
    >>> dpa.predict(tuned, adata[120:]).obsm["spatial_dpvae"].shape
    (80, 2)
    """
    return _learn_more("partial_fit", model, adata, layer, spatial_key, section_key, min_share)


def calibrate(
    model: Any,
    adata: Any,
    *,
    layer: str | None = "auto",
    spatial_key: str | None = None,
    section_key: str | None = "auto",
    min_share: float = MIN_SHARE,
) -> SpatialModel:
    """Calibrate standard deviations and radii on located cells that were not in the fit.

    Parameters
    ----------
    model, adata, layer, spatial_key, section_key, min_share
        See `partial_fit`.

    Returns
    -------
    SpatialModel
        A new one; `model` stays as it is.

    Examples
    --------
    >>> from anndata import AnnData
    >>> import sklearn_dpvae.anndata as dpa
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> adata.var_names = tissue.genes
    >>> model = dpa.fit(adata[:120], max_epochs=2, random_state=0)
    >>> calibrated = dpa.calibrate(model, adata[120:])
    >>> dpa.predict(calibrated, adata[120:]).obsm["spatial_dpvae"].shape
    (80, 2)
    """
    return _learn_more("calibrate", model, adata, layer, spatial_key, section_key, min_share)


def _learn_more(
    method: str,
    model: Any,
    adata: Any,
    layer: str | None,
    spatial_key: str | None,
    section_key: str | None,
    min_share: float,
) -> SpatialModel:
    model = as_spatial_model(model)
    coords = _known_positions(adata, spatial_key or model.spatial_key)
    coords[~is_located(coords)] = np.nan
    X, known, _ = _query(model, adata, layer, section_key)
    learned: SpatialModel = getattr(model, method)(X[:], coords, **known, min_share=min_share)
    return learned


def _query(
    model: SpatialModel, adata: Any, layer: str | None, section_key: str | None
) -> tuple[Any, dict[str, Any], str | None]:
    """Expression of a query, names of genes and sections as a model takes them, and the layer."""
    layer = layer_of_query(adata, model) if layer == "auto" else layer
    X, genes = find_expression(adata, "adata", layer)
    known = {
        "genes": _unique(genes),
        "gene_ids": other_names(gene_table(adata, layer)),
        "sections": _sections(adata, section_key, model.section_key),
    }
    return X, known, layer


def _known_positions(adata: Any, key: str | None) -> np.ndarray:
    key = key or SPATIAL_KEY
    if key == SPATIAL_KEY:
        coords = find_positions(adata, "adata")
    else:
        coords = (
            None if key not in adata.obsm else as_positions(adata.obsm[key], f".obsm[{key!r}]")
        )
    if coords is None:
        raise ValueError(
            f"adata has no positions spatial_key={key!r}; .obsm has "
            f"{', '.join(adata.obsm) or 'none'}."
        )
    return coords.copy()


def _write(
    adata: Any, key_added: str, found: Answers, radii: Any, provenance: dict[str, Any]
) -> None:
    """Write results, in place of all that another model may have left."""
    adata.obsm[f"spatial_{key_added}"] = found.coords
    adata.uns[key_added] = provenance
    for where, key, values in (
        ("obsm", f"X_{key_added}", found.latents),
        ("obs", f"{key_added}_std", found.std),
        ("obs", f"{key_added}_radius", radii),
    ):
        table = getattr(adata, where)
        if values is not None:
            table[key] = values
        elif key in table:
            del table[key]


def _unique(names: Any) -> np.ndarray:
    unique, repeated = make_unique(names)
    if repeated:
        warn(
            f"{len(repeated)} names of genes occur more than once in adata ({quote(repeated)}); "
            "the first of each is taken."
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
    warn(
        f"adata has labels of sections, but {type(pipeline).__name__} does not take them: all "
        "cells are taken for one section. make_spatial_pipeline and "
        "sklearn_dpvae.pipeline.SpatialPipeline do; section_key=None says that it is meant."
    )
    return {}


def _provenance(model: SpatialModel, found: Answers, layer: str | None) -> dict[str, Any]:
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
        "n_genes_missing": 0 if found.missing is None else int(found.missing.sum()),
        "query_shift": json.dumps(
            {str(label): share for label, share in (found.query_shift or {}).items()}
        ),
        "layer": "X" if layer is None else layer,
        "unit": model.unit or "unknown",
    }
