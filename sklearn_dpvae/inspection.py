"""Which genes determine where the cells are placed? Gradients of the predicted positions.

From this package it imports the regressor and the steps before it.
"""

import copy
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OneToOneFeatureMixin
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from ._regressor import DPVAESpatialRegressor
from ._utils.validation import check_sections
from .decomposition import SpatialPCA
from .pipeline._steps import transform_by

__all__ = ["gene_importances", "marker_genes"]

# Step of finite differences, in standard deviations.
_STEP = 1e-4


def gene_importances(
    model: Any,
    X: Any,
    *,
    sections: ArrayLike | None = None,
    genes: ArrayLike | None = None,
    max_cells: int | None = 500,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    r"""How far each gene moves the cells, in tissue units per standard deviation.

    For cell i and gene g, let the vector :math:`J_{ig}` be the derivative of the predicted
    position with respect to the expression of that gene. The importance of g is

    .. math:: \sigma_g \Big( \frac{1}{n} \sum_i \|J_{ig}\|^2 \Big)^{1/2} ,

    where :math:`\sigma_g` is the standard deviation of the gene over the cells. It is how far a
    typical change of this gene alone moves a cell, a length. It says what the *model* uses, not
    what causes what, and genes that vary together share their importance.

    Parameters
    ----------
    model : DPVAESpatialRegressor, Pipeline or SpatialModel
        A fitted model. In a pipeline, the first steps keep genes apart (normalization, selection,
        scaling), and the expression after them is what is varied. Later steps that mix genes, such
        as `SpatialPCA`, are differentiated through.
    X : {array-like, sparse matrix} of shape (n_cells, n_features)
        What `predict` takes; for the recommended pipeline, counts.
    sections : array-like of shape (n_cells,), default=None
        Section of each row.
    genes : array-like of shape (n_features,), default=None
        Names of the columns of `X`. None takes the names that the model knows, or ``x0, x1 ...``.
    max_cells : int or None, default=500
        If there are more cells, this number is drawn at random, and means are taken over these.
        None takes all cells.
    random_state : int, RandomState instance or None, default=0
        Determines which cells are drawn.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        With the attributes

        genes : ndarray of shape (n_genes,)
            Names of the genes that the regressor sees, in the order of the columns.
        importances : ndarray of shape (n_genes,)
            Importance of each gene, in tissue units per standard deviation.
        directions : ndarray of shape (n_genes, n_dims)
            Means over cells of the vectors :math:`\sigma_g J_{ig}`: the direction in which more
            of the gene moves cells. It is much shorter than the importance if the gene pulls
            cells from all sides to the place where it is expressed.

    Raises
    ------
    TypeError
        If the last step is not a `DPVAESpatialRegressor`.
    ValueError
        If `genes` does not hold one name for each column of `X`.

    See Also
    --------
    marker_genes : Names of the most important genes.
    sklearn.inspection.permutation_importance : Also works with the pipelines of this package, on
        dense `X`. It measures how much the score drops when a gene is shuffled, and takes one
        prediction per gene and repetition.

    Notes
    -----
    The network is differentiated exactly, in float64, and so are `SpatialPCA`, ``PCA`` and
    ``TruncatedSVD``. Other steps that mix genes, and the map from latents to positions, are
    differentiated by central differences. With ``reconstruction="mds"``, where cells are placed
    jointly, the map for a cell on its own is used.

    Examples
    --------
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.inspection import gene_importances
    >>> tissue = make_tissue(200, 40, random_state=0)
    >>> model = make_spatial_pipeline(max_epochs=5, random_state=0)
    >>> model = model.fit(tissue.X, tissue.coords)
    >>> found = gene_importances(model, tissue.X, genes=tissue.genes)
    >>> found.importances.shape, found.directions.shape
    ((40,), (40, 2))
    """
    if genes is None:
        genes = getattr(model, "genes", None)
    model = getattr(model, "pipeline", model)
    transformers, regressor = _split(model)
    check_is_fitted(regressor)
    if genes is None:
        genes = getattr(model, "feature_names_in_", None)
    X = X if hasattr(X, "shape") else np.asarray(X)
    names = _check_names(genes, X.shape[1])

    n_apart = 0
    for step in transformers:
        if not isinstance(step, OneToOneFeatureMixin | SelectorMixin):
            break
        n_apart += 1
    if n_apart:
        X, _ = transform_by(transformers[:n_apart], X, sections)
    for step in transformers[:n_apart]:
        if isinstance(step, SelectorMixin):
            names = names[step.get_support()]

    rows = _draw(X.shape[0], max_cells, random_state)
    X = _dense(X[rows] if isinstance(X, np.ndarray) or sp.issparse(X) else np.asarray(X)[rows])
    labels = None if sections is None else np.asarray(sections)[rows]

    inputs = [X]
    for step in transformers[n_apart:]:
        inputs.append(_dense(transform_by([step], inputs[-1], labels)[0]))
    jacobian = _position_gradients(regressor, inputs.pop(), labels)
    for step, before in zip(transformers[n_apart:][::-1], inputs[::-1], strict=True):
        jacobian = _pull_back(step, before, jacobian, labels)

    jacobian *= X.std(axis=0)
    importances = np.sqrt(np.mean(np.sum(jacobian**2, axis=1), axis=0))
    return Bunch(genes=names, importances=importances, directions=jacobian.mean(axis=0).T)


def marker_genes(
    model: Any,
    X: Any,
    n: int = 20,
    *,
    sections: ArrayLike | None = None,
    genes: ArrayLike | None = None,
    max_cells: int | None = 500,
    random_state: int | np.random.RandomState | None = 0,
) -> NDArray[Any]:
    """Names of the genes that matter most for predicted positions, the most important first.

    Parameters
    ----------
    model, X, sections, genes, max_cells, random_state
        See `gene_importances`.
    n : int, default=20
        Number of genes. If there are fewer, all are returned.

    Returns
    -------
    ndarray of shape (n,)
        Names.

    Raises
    ------
    ValueError
        If `n` is less than 1.

    See Also
    --------
    gene_importances : The importance of each gene.
    sklearn_dpvae.plotting.GeneMapDisplay : Draws the expression of these genes on the tissue.

    References
    ----------
    W. Zhou and J.-H. Du (2024), "Distance-Preserving Spatial Representations in Genomic Data",
    arXiv:2408.00911, Figure 12 shows such genes in the tissue and in the latent space.

    Examples
    --------
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.inspection import marker_genes
    >>> tissue = make_tissue(200, 40, random_state=0)
    >>> model = make_spatial_pipeline(max_epochs=5, random_state=0)
    >>> model = model.fit(tissue.X, tissue.coords)
    >>> marker_genes(model, tissue.X, 3, genes=tissue.genes).shape
    (3,)
    """
    if n < 1:
        raise ValueError(f"n must be 1 or more, got {n!r}.")
    found = gene_importances(
        model, X, sections=sections, genes=genes, max_cells=max_cells, random_state=random_state
    )
    return found.genes[np.argsort(-found.importances, kind="stable")[:n]]


def _split(model: Any) -> tuple[list, DPVAESpatialRegressor]:
    """Return the transformers of a model, and its regressor."""
    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    *transformers, regressor = [step for step in steps if step not in (None, "passthrough")]
    if not isinstance(regressor, DPVAESpatialRegressor):
        raise TypeError(
            f"the last step is a {type(regressor).__name__}, but gradients need a "
            "DPVAESpatialRegressor. sklearn.inspection.permutation_importance takes any estimator."
        )
    return transformers, regressor


def _check_names(genes: ArrayLike | None, n_features: int) -> NDArray[Any]:
    if genes is None:
        return np.array([f"x{i}" for i in range(n_features)])
    names = np.asarray(genes)
    if names.shape != (n_features,):
        raise ValueError(
            f"genes has shape {names.shape} but X has {n_features} columns. Pass one name for "
            "each column."
        )
    return names


def _dense(X: Any) -> NDArray[np.float64]:
    return np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)


def _draw(n_cells: int, max_cells: int | None, random_state: Any) -> NDArray[Any]:
    if max_cells is None or n_cells <= max_cells:
        return np.arange(n_cells)
    if max_cells < 2:
        raise ValueError(f"max_cells must be 2 or more, or None, got {max_cells!r}.")
    return np.sort(check_random_state(random_state).choice(n_cells, max_cells, replace=False))


def _position_gradients(
    regressor: DPVAESpatialRegressor, X: NDArray[np.float64], sections: ArrayLike | None
) -> NDArray[np.float64]:
    """Return the derivatives of positions by the regressor's inputs.

    Their shape is (n_cells, n_dims, n_features).
    """
    module = copy.deepcopy(regressor.module_).double().eval().requires_grad_(False)
    x = torch.from_numpy(X.copy()).requires_grad_()
    mean, _ = module.encode(x)
    latents = module.pose(mean).mean(dim=0)
    by_inputs = np.stack(
        [
            torch.autograd.grad(column.sum(), x, retain_graph=True)[0].numpy()
            for column in latents.unbind(dim=1)
        ],
        axis=1,
    )
    by_latents = _placement_gradients(regressor, latents.detach().numpy(), sections)
    return np.einsum("ndk,nkf->ndf", by_latents, by_inputs)


def _placement_gradients(
    regressor: DPVAESpatialRegressor, latents: NDArray[np.float64], sections: ArrayLike | None
) -> NDArray[np.float64]:
    """Return the derivatives of positions by latents, of shape (n_cells, n_dims, n_components)."""
    placement = regressor.placement_
    if not placement.pointwise:
        placement = copy.copy(regressor).set_params(reconstruction="auto").placement_
    if sections is not None:
        check_sections(sections, len(latents))
    step = _STEP * latents.std()
    slopes = []
    for k in range(latents.shape[1]):
        shift = step * np.eye(latents.shape[1])[k]
        ahead, behind = (
            regressor.fitted_.place(latents + s, placement, sections) for s in (shift, -shift)
        )
        slopes.append((ahead - behind) / (2 * step))
    return np.stack(slopes, axis=2)


def _pull_back(
    step: Any, X: NDArray[np.float64], jacobian: NDArray[np.float64], sections: ArrayLike | None
) -> NDArray[np.float64]:
    """Turn derivatives with respect to a step's output into derivatives with respect to X."""
    if isinstance(step, SpatialPCA):
        slopes = jacobian @ step.directions_.astype(np.float64)
        if not step.unit_rows_:
            return slopes
        # With r = x / |x| the derivative of r in direction v is (v - r (r.v)) / |x|.
        length = np.sqrt(np.mean(X**2, axis=1))
        length[length == 0] = 1.0
        rows = X / length[:, None]
        along = np.einsum("ndf,nf->nd", slopes, rows) / X.shape[1]
        slopes -= along[:, :, None] * rows[:, None, :]
        return slopes / length[:, None, None]
    if isinstance(step, PCA | TruncatedSVD):
        components = step.components_.astype(np.float64)
        if getattr(step, "whiten", False):
            components = components / np.sqrt(step.explained_variance_)[:, None]
        return jacobian @ components
    return _pull_back_by_differences(step, X, jacobian, sections)


def _pull_back_by_differences(
    step: Any, X: NDArray[np.float64], jacobian: NDArray[np.float64], sections: ArrayLike | None
) -> NDArray[np.float64]:
    slopes = np.empty((*jacobian.shape[:2], X.shape[1]))
    moved = X.copy()
    spread = X.std(axis=0)
    for g in range(X.shape[1]):
        h = _STEP * (spread[g] if spread[g] > 0 else 1.0)
        moved[:, g] = X[:, g] + h
        ahead = _dense(transform_by([step], moved, sections)[0])
        moved[:, g] = X[:, g] - h
        change = (ahead - _dense(transform_by([step], moved, sections)[0])) / (2 * h)
        moved[:, g] = X[:, g]
        slopes[:, :, g] = np.einsum("ndk,nk->nd", jacobian, change)
    return slopes
