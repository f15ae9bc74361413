"""Principal components of what varies smoothly in space.

Imports the neighbor weights and the checks.
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
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from ._spatial_autocorrelation import knn_weights, moran_i
from ._validation import check_coords, check_sections


class SpatialPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Project expression on principal components of its spatially smoothed self.

    A spot's expression is a signal that its neighbors share plus noise of its own, and ordinary
    components follow the variance of both. Here the components are those of

        (1 - smoothing) x_i + smoothing * mean of x_j over the spatial neighbors j of i

    of the reference, where the noise is averaged out. Only the directions come from smoothed
    values: `transform` projects each cell's own expression, so that cells without positions can
    be transformed, and one row's result does not depend on the others.

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
    unit_rows : bool, default=True
        Whether each cell's vector is first divided by its root mean square over the genes. The
        length of a vector of z-scores follows the depth of sequencing, and in shallow cells
        a few rare counts make it long.
    random_state : int, RandomState instance or None, default=None
        Seed of the randomized decomposition that large inputs get.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features_in_)
        Orthonormal directions of weighted genes, by falling variance of the smoothed values.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the (unit) rows of the reference.
    feature_weights_ : ndarray of shape (n_features_in_,)
        Weight of each gene, at most 1.
    scale_ : float
        Projections are divided by it, so that their root mean square on the reference is 1.
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
        unit_rows=True,
        random_state=None,
    ):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.smoothing = smoothing
        self.autocorrelation_power = autocorrelation_power
        self.unit_rows = unit_rows
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, *, sections=None):
        """Find the components.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, as a rule z-scored. It is held dense once while the components are found.
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
        X = self._validate(X, reset=True)
        codes, labels = check_sections(sections, X.shape[0])
        coords = check_coords(y, codes, labels, name="y")
        rows = self._rows(X)
        mean = rows.mean(axis=0)
        centered = rows - mean
        smallest = np.bincount(codes).min()
        n_neighbors = max(min(self.n_neighbors, smallest // 10), 1)
        neighbors = knn_weights(coords, n_neighbors, codes=codes).astype(rows.dtype)
        feature_weights = self._feature_weights(centered, neighbors).astype(rows.dtype)
        centered *= feature_weights
        smoothed = neighbors @ centered
        smoothed *= self.smoothing
        smoothed += (1 - self.smoothing) * centered
        pca = PCA(min(self.n_components, *X.shape), random_state=self.random_state).fit(smoothed)
        projected = centered @ pca.components_.T
        scale = float(np.sqrt(np.mean(np.square(projected, dtype=np.float64))))

        self.components_ = pca.components_
        self.mean_ = mean
        self.feature_weights_ = feature_weights
        self.scale_ = scale if scale > 0 else 1.0
        return self

    def _feature_weights(self, centered, neighbors):
        if self.autocorrelation_power == 0:
            return np.ones(centered.shape[1])
        autocorrelation = np.nan_to_num(moran_i(centered, neighbors))
        highest = autocorrelation.max()
        if highest <= 0:
            return np.ones(centered.shape[1])
        return np.maximum(autocorrelation / highest, 1e-3) ** self.autocorrelation_power

    def transform(self, X):
        """Project each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_components), in the dtype of `X` if that is a float
            Projections, with a root mean square of 1 over the reference.
        """
        check_is_fitted(self)
        rows = self._rows(self._validate(X, reset=False))
        directions = (self.components_ * self.feature_weights_).astype(rows.dtype, copy=False)
        projected = rows @ directions.T
        projected -= self.mean_.astype(rows.dtype, copy=False) @ directions.T
        projected /= self.scale_
        return projected

    def _validate(self, X, reset):
        return validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=reset
        )

    def _rows(self, X):
        """X, dense, with rows of root mean square 1 if asked for; rows of zeros stay so."""
        rows = X.toarray() if sp.issparse(X) else X
        if not self.unit_rows:
            return rows
        length = np.sqrt(np.mean(np.square(rows), axis=1, keepdims=True))
        return rows / np.where(length > 0, length, 1.0).astype(rows.dtype)

    @property
    def _n_features_out(self):
        return len(self.components_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
