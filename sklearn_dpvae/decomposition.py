"""Principal components of what varies smoothly in space.

Imports the neighbor weights, the matrices and the checks.
"""

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.extmath import row_norms
from sklearn.utils.validation import check_is_fitted, validate_data

from ._utils.autocorrelation import knn_weights
from ._utils.matrix import check_matrix
from ._utils.validation import check_coords, check_sections

# Cells of the reference that components are found on. More do not change what varies smoothly over
# a tissue, and memory would grow with their number.
_CELLS_FOR_COMPONENTS = 20_000

# Neighbors of a cell are at most this share of its section.
_NEIGHBORHOOD = 0.1

# Genes and components of no autocorrelation are not taken out altogether.
_LEAST_SMOOTH = 1e-3

# Standard deviation of the noise in what `transform` returns: signals are then of order one.
_NOISE = 0.25


class SpatialPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Project expression on principal components of its spatially smoothed self.

    A spot's expression is a signal that its neighbors share plus noise of its own, and ordinary
    components follow the variance of both. Here the components are those of

        (1 - smoothing) x_i + smoothing * mean of x_j over the spatial neighbors j of i

    of the reference, where the noise is averaged out. Only the directions come from smoothed
    values: `transform` projects each cell's own expression, so that cells without positions can
    be transformed, and one row's result does not depend on the others.

    Components are weighted by how smooth they are, and come in units of their noise. What each
    gene does on its own, sampling included, adds up to noise of about the same size in every
    component; how much it is follows from what the components leave of each gene.

    Parameters
    ----------
    n_components : int, default=20
        Number of components; fewer where there are fewer cells or genes.
    n_neighbors : int, default=24
        Number of nearest neighbors, within the section; at most a tenth of its cells.
    smoothing : float, default=0.5
        Share of the neighbors in the smoothed value. 0 is ordinary PCA.
    autocorrelation_power : float, default=0.25
        Genes are weighted by this power of their Moran's I on the reference, relative to the
        highest. 0 weighs all alike.
    component_power : float, default=1.0
        Components are weighted by this power of their Moran's I, relative to the highest. 0
        weighs all alike.
    unit_rows : bool, default=True
        Whether each cell's vector is first divided by its root mean square over the genes. The
        length of a vector of z-scores follows the depth of sequencing, and in shallow cells
        a few rare counts make it long.
    random_state : int, RandomState instance or None, default=None
        Seed of the randomized decomposition that large inputs get, and of the rows that it is
        of.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features_in_)
        Orthonormal directions of weighted genes, by falling variance of the smoothed values.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the (unit) rows that the components were found on.
    feature_weights_ : ndarray of shape (n_features_in_,)
        Weight of each gene, at most 1.
    component_weights_ : ndarray of shape (n_components,)
        Weight of each component, at most 1.
    noise_ : float
        Standard deviation of the noise of a component, on the scale of weighted genes.
    scale_ : float
        Projections are divided by it: ``4 * noise_``, so that the noise has a standard deviation
        of 1/4 before components are weighted.
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    sklearn.decomposition.PCA : Components of the values as they are.

    Notes
    -----
    Weighing variance by spatial autocorrelation is the idea of MULTISPATI [1]_; here the
    smoothed values are decomposed instead of the product of values and neighbor means, which
    keeps all eigenvalues non-negative.

    The noise is that of a factor model with noise of its own for each gene: with residual
    variances psi_g of the genes, a component c has noise of variance sum_g c_g^2 psi_g. The mean
    over components is taken. Where components leave nothing, because there are no more genes or
    cells than components, the noise is unknown, and a quarter of the projections' root mean
    square stands in for it.

    With metadata routing enabled, `fit` requests `sections` by default.

    References
    ----------
    .. [1] Dray, S., Said, S. and Debias, F. (2008). Spatial ordination of vegetation data using
       a generalization of Wartenberg's multivariate spatial correlation. Journal of Vegetation
       Science 19, 45-56.

    Examples
    --------
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.decomposition import SpatialPCA
    >>> from sklearn_dpvae.preprocessing import LogNormalizer
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> X = LogNormalizer().fit_transform(tissue.X)
    >>> SpatialPCA(n_components=5).fit_transform(X, tissue.coords).shape
    (200, 5)
    """

    __metadata_request__fit: ClassVar = {"sections": True}

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "smoothing": [Interval(Real, 0, 1, closed="both")],
        "autocorrelation_power": [Interval(Real, 0, None, closed="left")],
        "component_power": [Interval(Real, 0, None, closed="left")],
        "unit_rows": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components=20,
        *,
        n_neighbors=24,
        smoothing=0.5,
        autocorrelation_power=0.25,
        component_power=1.0,
        unit_rows=True,
        random_state=None,
    ):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.smoothing = smoothing
        self.autocorrelation_power = autocorrelation_power
        self.component_power = component_power
        self.unit_rows = unit_rows
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, *, sections=None):
        """Find the components.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, as a rule z-scored. Of more than 20,000 rows, components are found on so
            many, drawn at random, and the neighbors of each; no others are copied or made dense.
        y : array-like of shape (n_samples,) or (n_samples, n_dims)
            Positions of the rows, in any unit.
        sections : array-like of shape (n_samples,), default=None
            One label per row. None means that all rows are of one section.

        Returns
        -------
        self : SpatialPCA

        Raises
        ------
        ValueError
            If values or positions are missing, NaN or infinite, labels are missing or not one per
            row, or a section has fewer than three cells or no extent.
        """
        if y is None:
            raise ValueError(
                "SpatialPCA requires y to be passed, but the target y is None. "
                "Pass the positions of the rows of X as y."
            )
        checked = check_matrix(X, self)
        codes, labels = check_sections(sections, checked.shape[0])
        coords = check_coords(y, codes, labels, name="y")
        neighbors = knn_weights(coords, self.n_neighbors, codes=codes, max_share=_NEIGHBORHOOD)
        neighbors = neighbors.astype(checked.dtype)
        random_state = check_random_state(self.random_state)
        rows = np.arange(len(codes))
        if len(rows) > _CELLS_FOR_COMPONENTS:
            rows = np.sort(random_state.permutation(rows)[:_CELLS_FOR_COMPONENTS])

        own, around = self._own_and_around(checked, neighbors, rows)
        mean = own.mean(axis=0)
        own -= mean
        around -= mean
        feature_weights = smoothness_weights(own, around, self.autocorrelation_power)
        own *= feature_weights
        around *= feature_weights
        smoothed = self.smoothing * around
        smoothed += (1 - self.smoothing) * own
        pca = PCA(min(self.n_components, *own.shape), random_state=random_state).fit(smoothed)
        projected, projected_around = (part @ pca.components_.T for part in (own, around))

        validate_data(self, X, skip_check_array=True)
        # PCA leaves a view. Copied whole it keeps the order of its axes in a pickle, too, and so
        # the last bits of every product with it.
        self.components_ = pca.components_.copy(order="K")
        self.mean_ = mean
        self.feature_weights_ = feature_weights
        self.component_weights_ = smoothness_weights(
            projected, projected_around, self.component_power
        )
        self.noise_ = noise_of_components(own, projected, pca.components_)
        self.scale_ = self.noise_ / _NOISE
        return self

    def transform(self, X):
        """Project each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_components), in the dtype of `X` if that is a float
            Weighted projections, in units of four times the noise.
        """
        check_is_fitted(self)
        checked = check_matrix(X, self)
        validate_data(self, X, reset=False, skip_check_array=True)
        directions = self._directions.astype(checked.dtype, copy=False)
        projected = checked @ directions.T
        projected /= self._lengths(checked)[:, None]
        projected -= self.mean_.astype(checked.dtype, copy=False) @ directions.T
        return projected

    @property
    def _directions(self):
        """What `transform` multiplies centered rows with, (n_components, n_features_in_)."""
        weights = self.component_weights_ / self.scale_
        return weights[:, None] * self.components_ * self.feature_weights_

    def _own_and_around(self, X, neighbors, rows):
        """Some (unit) rows of X and, for each of them, the weighted mean over its neighbors.

        Both dense, and of no more cells than asked for.
        """
        per_length = 1 / self._lengths(X)
        own = X[rows]
        weights = neighbors[rows]
        weights.data *= per_length[weights.indices]
        around = weights @ X
        if sp.issparse(X):
            own, around = own.toarray(), around.toarray()
        own *= per_length[rows, None]
        return own, around

    def _lengths(self, X):
        """What each row is divided by: its root mean square, or 1. Rows of zeros stay so."""
        if not self.unit_rows:
            return np.ones(X.shape[0], dtype=X.dtype)
        lengths = (row_norms(X) / np.sqrt(X.shape[1])).astype(X.dtype)
        return np.where(lengths > 0, lengths, 1)

    @property
    def _n_features_out(self):
        return len(self.components_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def smoothness_weights(own, around, power):
    """The given power of each column's Moran's I over the highest; all 1 if none is positive.

    Parameters
    ----------
    own : ndarray of shape (n_samples, n_features)
        Centered values.
    around : ndarray of shape (n_samples, n_features)
        Their means over the spatial neighbors of each sample.
    power : float

    Returns
    -------
    ndarray of shape (n_features,), in the dtype of `own`
    """
    weights = np.ones(own.shape[1], dtype=own.dtype)
    if power > 0:
        cross, variation = (
            np.einsum("ij,ij->j", own, other, dtype=np.float64) for other in (around, own)
        )
        # Of a constant column, rounding leaves a variation that is tiny but positive.
        varies = own.max(axis=0) > own.min(axis=0)
        autocorrelation = np.divide(cross, variation, out=np.zeros_like(cross), where=varies)
        highest = autocorrelation.max()
        if highest > 0:
            weights[:] = np.maximum(autocorrelation / highest, _LEAST_SMOOTH) ** power
    return weights


def noise_of_components(centered, projected, components):
    """Standard deviation that the genes' own noise gives a component, on average.

    From the residual variance of each gene, without the residuals themselves, which would be as
    large as the matrix.

    Parameters
    ----------
    centered : ndarray of shape (n_samples, n_features)
    projected : ndarray of shape (n_samples, n_components)
        ``centered @ components.T``
    components : ndarray of shape (n_components, n_features)
        Orthonormal.

    Returns
    -------
    float
        Positive.
    """
    n_samples, n_features = centered.shape
    # |x - P c|^2 of each gene's column x, with P' x and P' P in place of P.
    along = centered.T @ projected
    gram = projected.T @ projected
    total = np.einsum("ng,ng->g", centered, centered)
    residual = total - 2 * np.einsum("gk,kg->g", along, components)
    residual += np.einsum("kg,kl,lg->g", components, gram, components, optimize=True)
    # The components take their share of the noise, too, out of as many dimensions as there are.
    n_left = n_features - len(components)
    size = float(np.sqrt(np.mean(np.square(projected, dtype=np.float64))))
    if n_left > 0:
        variance = np.maximum(residual, 0) / n_samples * (n_features / n_left)
        noise = float(np.sqrt(np.mean(np.square(components) @ variance)))
        # Less is what rounding leaves of nothing.
        if noise > 10 * np.sqrt(np.finfo(projected.dtype).eps) * size:
            return noise
    return _NOISE * size if size > 0 else 1.0
