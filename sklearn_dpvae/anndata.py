"""Fit and predict on AnnData: layers and keys by name, genes aligned by name.

Needs the extra ``anndata``. Tables of SpatialData are AnnData, so these functions take them as
they are. Stands on the pipeline and the readers.
"""

import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .datasets import align_genes, read_sections
from .datasets._genes import make_unique, quote
from .datasets._readers import SECTION_KEY, SPATIAL_KEY, find_expression
from .pipeline import make_spatial_pipeline, sections_for, transform_by

__all__ = ["AnnDataModel", "fit", "predict"]


@dataclass
class AnnDataModel:
    """A fitted pipeline that knows the names of its genes.

    `fit` makes it. `sklearn_dpvae.save` and joblib write it to a file.

    Attributes
    ----------
    pipeline : estimator
        The fitted pipeline.
    genes : ndarray of shape (n_genes,), dtype str
        Names of the columns that it takes, in order.
    layer : str or None
        Where `fit` took the expression from.
    section_key : str or None
        Column of ``.obs`` that `fit` took the sections from; None if there was none.

    See Also
    --------
    fit : Make one.
    """

    pipeline: Any
    genes: np.ndarray
    layer: str | None = None
    section_key: str | None = None

    def predict(self, adata: Any, **options: Any) -> Any:
        """Place the cells of an AnnData.

        Parameters
        ----------
        adata : AnnData
            The query.
        **options : dict
            As for the function `predict`.

        Returns
        -------
        AnnData or None
            As the function `predict`.
        """
        return predict(self, adata, **options)


def fit(
    adata: Any,
    pipeline: Any = None,
    *,
    layer: str | None = None,
    spatial_key: str = SPATIAL_KEY,
    section_key: str | None = SECTION_KEY,
    **pipeline_params: Any,
) -> AnnDataModel:
    """Fit a pipeline on the cells of an AnnData and their positions.

    Parameters
    ----------
    adata : AnnData
        The reference: raw counts, for the recommended pipeline. It is not modified.
    pipeline : estimator, default=None
        What to fit, in place. None makes the recommended one.
    layer : str, default=None
        Layer that holds the expression: None is ``.X``, ``"raw"`` is ``.raw.X`` unless a layer
        has this name.
    spatial_key : str, default="spatial"
        Key of ``.obsm`` that holds the positions, in any unit.
    section_key : str or None, default="section"
        Column of ``.obs`` that holds the section of each cell, ``"region"`` for many tables of
        SpatialData. With None, or where the default column is absent, there is one section.
    **pipeline_params : dict
        Parameters of `make_spatial_pipeline`, where `pipeline` is None.

    Returns
    -------
    AnnDataModel
        The fitted pipeline with the names of the genes.

    Raises
    ------
    TypeError
        If both a pipeline and parameters of one are given.
    ValueError
        If a layer or key is not there (the message lists what is), or there are no positions.

    Warns
    -----
    UserWarning
        If there are labels of sections and the pipeline does not take any.

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
    data = read_sections(
        {"adata": adata}, layer=layer, spatial_key=spatial_key, section_key=section_key
    )
    if data.coords is None:
        raise ValueError(
            f"adata has no positions: there is no .obsm[{spatial_key!r}]. Name the key by "
            "spatial_key=."
        )
    has_sections = section_key is not None and section_key in adata.obs
    sections = data.sections if has_sections else None
    pipeline.fit(data.X, data.coords, **_labels_for_fit(pipeline, sections))
    return AnnDataModel(pipeline, data.genes, layer, section_key if has_sections else None)


def predict(
    model: Any,
    adata: Any,
    *,
    layer: str | None = "auto",
    section_key: str | None = "auto",
    anchors_key: str | None = None,
    key_added: str = "dpvae",
    min_share: float = 0.5,
    chunk_size: int = 10_000,
    copy: bool = False,
) -> Any:
    """Place the cells of an AnnData, and write the positions into it.

    Genes are matched by name: those that the model does not know are dropped. Of those that the
    query lacks a warning tells; where they are z-scored by `SectionScaler`, they count as having
    the mean of the reference, else as 0.

    Parameters
    ----------
    model : AnnDataModel or estimator
        What `fit` returned; a fitted pipeline with `feature_names_in_`; or what joblib loads
        from a file that the command ``sklearn-dpvae fit`` wrote.
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
            Where this comes from: version of this package, parameters (as JSON), names of
            the model's genes, and how many of them the query lacks.

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
    model = _as_model(model)
    check_is_fitted(model.pipeline)
    if adata.n_obs == 0:
        raise ValueError("adata has no cells to place: its .n_obs is 0.")
    if not isinstance(chunk_size, int | np.integer) or chunk_size < 1:
        raise ValueError(f"chunk_size must be a whole number of 1 or more, got {chunk_size!r}.")
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
    sections = _sections(adata, section_key, model.section_key)
    anchors = _anchors(adata, anchors_key)

    chunks = _chunks(X, genes, model.genes, min_share, chunk_size)
    missing = ~np.isin(model.genes, genes)
    found = _place(model.pipeline, chunks, sections, anchors, missing)

    adata.obsm[f"spatial_{key_added}"] = found["coords"]
    if "latents" in found:
        adata.obsm[f"X_{key_added}"] = found["latents"]
    if "std" in found:
        adata.obs[f"{key_added}_std"] = found["std"]
    adata.uns[key_added] = _provenance(model, missing, layer)
    return adata if copy else None


def _as_model(model: Any) -> AnnDataModel:
    if isinstance(model, AnnDataModel):
        return model
    if isinstance(model, Mapping) and {"pipeline", "genes"} <= model.keys():
        return AnnDataModel(model["pipeline"], np.asarray(model["genes"]).astype(str))
    if not isinstance(model, BaseEstimator):
        raise TypeError(
            f"model is a {type(model).__name__}, not what fit returns nor a fitted pipeline. Is "
            "the order of the arguments (model, adata)?"
        )
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        raise TypeError(
            f"this {type(model).__name__} does not know the names of its genes. Fit it by "
            "sklearn_dpvae.anndata.fit or on a pandas DataFrame, or give them as "
            "AnnDataModel(pipeline, genes)."
        )
    return AnnDataModel(model, np.asarray(names).astype(str))


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


def _chunks(
    X: Any, genes: np.ndarray, wanted: np.ndarray, min_share: float, size: int
) -> Iterator[tuple[slice, Any]]:
    """Blocks of rows in memory, with the model's columns."""
    for start in range(0, X.shape[0], size):
        rows = slice(start, min(start + size, X.shape[0]))
        part = X[rows]
        if hasattr(part, "compute"):  # dask
            part = part.compute()
        part = part if sparse.issparse(part) else np.asarray(part)
        with warnings.catch_warnings():
            if start:  # The first block has said which genes are missing.
                warnings.filterwarnings("ignore", message=".* genes are missing in the query")
            part = align_genes(part, genes, wanted, min_share=min_share)
        yield rows, part


def _place(
    pipeline: Any,
    chunks: Iterator[tuple[slice, Any]],
    sections: np.ndarray | None,
    anchors: np.ndarray | None,
    missing: np.ndarray,
) -> dict[str, np.ndarray]:
    """Positions, latents and spreads; as much as possible is done block by block.

    A step that looks at all cells of the query needs them at once, but after the steps before
    it, which as a rule have left few columns.
    """
    pipeline = getattr(pipeline, "best_estimator_", pipeline)  # of a search
    steps = [step for _, step in pipeline.steps] if isinstance(pipeline, Pipeline) else [pipeline]
    steps = [step for step in steps if step not in (None, "passthrough")]
    *transformers, final = steps
    alone = [getattr(step, "query", None) != "new_section" for step in transformers]
    n_alone = alone.index(False) if False in alone else len(alone)
    jointly = anchors is not None or getattr(final, "reconstruction", None) == "mds"
    options = {} if anchors is None else {"anchors": anchors}

    def labels(rows: slice) -> np.ndarray | None:
        return None if sections is None else sections[rows]

    def finish(X: Any, rows: slice, missing: np.ndarray) -> dict[str, np.ndarray]:
        X, _ = transform_by(transformers[n_alone:], X, labels(rows), missing)
        return _answers(final, X, labels(rows), options)

    blocks: list[Any] = []
    left = missing
    for rows, X in chunks:
        X, left = transform_by(transformers[:n_alone], X, labels(rows), missing)
        blocks.append(X if jointly or n_alone < len(transformers) else finish(X, rows, left))
    if isinstance(blocks[0], dict):
        return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}
    if sparse.issparse(blocks[0]):
        return finish(sparse.vstack(blocks, format="csr"), slice(None), left)
    return finish(np.concatenate(blocks), slice(None), left)


def _labels_for_fit(pipeline: Any, sections: np.ndarray | None) -> dict[str, Any]:
    """The labels as a keyword of `fit`, which a search hands on as it is."""
    if sections is None:
        return {}
    parameters = inspect.signature(pipeline.fit).parameters
    hands_on = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if isinstance(pipeline, Pipeline):
        hands_on = get_config()["enable_metadata_routing"]
    if hands_on or "sections" in parameters:
        return {"sections": sections}
    warnings.warn(
        f"adata has labels of sections, but {type(pipeline).__name__} does not take them: all "
        "cells are taken for one section. make_spatial_pipeline and "
        "sklearn_dpvae.pipeline.SpatialPipeline do; section_key=None says that it is meant.",
        UserWarning,
        stacklevel=3,
    )
    return {}


def _answers(
    final: Any, X: Any, sections: np.ndarray | None, options: dict
) -> dict[str, np.ndarray]:
    """What the last step says of cells: positions, and latents and spreads if it has them."""
    options = {**options, **sections_for(final, "predict", sections)}
    if "return_std" in inspect.signature(final.predict).parameters:
        options["return_std"] = True
    placed = final.predict(X, **options)
    found = {}
    if isinstance(placed, tuple):
        placed, found["std"] = placed
    found["coords"] = np.asarray(placed).reshape(len(placed), -1)
    if hasattr(final, "transform"):
        found["latents"] = final.transform(X)
    return found


def _provenance(model: AnnDataModel, missing: np.ndarray, layer: str | None) -> dict[str, Any]:
    """Where results come from, in types that .h5ad files hold."""
    from . import __version__

    params = {
        name: value
        for name, value in model.pipeline.get_params().items()
        if not isinstance(value, BaseEstimator) and name != "steps"
    }
    return {
        "version": __version__,
        "estimator": type(model.pipeline).__name__,
        "params": json.dumps(params, default=repr),
        "genes": np.asarray(model.genes).astype(str),
        "n_genes_missing": int(missing.sum()),
        "layer": "X" if layer is None else layer,
    }
