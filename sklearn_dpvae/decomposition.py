"""Principal components of what varies smoothly in space.

May import `_utils`.
"""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import row_norms
from sklearn.utils.validation import check_is_fitted, validate_data

from ._utils.autocorrelation import knn_weights
from ._utils.matrix import ROWS_AT_A_TIME, check_matrix
from ._utils.validation import check_coords, check_sections, checks_parameters

__all__ = ["SpatialPCA"]

# Most cells that components are found on. More would not change what varies smoothly over a
# tissue, but memory would grow with their number.
_CELLS_FOR_COMPONENTS = 20_000

# What n_components="auto" stands for: components whose autocorrelation in cells that they were not
# found on is above this, within these limits.
_AUTO_AUTOCORRELATION = 0.1
_AUTO_FEWEST, _AUTO_MOST = 20, 50
_AUTO_NEIGHBORS = 6

# The neighbors of a cell are at most this share of its section.
_NEIGHBORHOOD = 0.1

# Genes and components without autocorrelation keep this share, so that none is lost altogether.
_LEAST_SMOOTH = 1e-3

# Standard deviation of the noise in the output of `transform`. Signals are then of order one.
_NOISE = 0.25


class SpatialPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Project expression on principal components of its spatially smoothed self.

    A spot's expression is a signal that its neighbors share plus noise of its own. Ordinary
    components follow the variance of both. Here the components are those of the reference's
    smoothed values

        (1 - smoothing) x_i + smoothing * mean of x_j over the spatial neighbors j of i

    in which the noise is averaged out. Only the directions come from smoothed values: `transform`
    projects each cell's own expression, so that cells without positions can be transformed, and
    one row's result does not depend on the others.

    Components are weighted by how smooth they are, and come in units of their noise. The
    variation of each gene on its own, including that of sampling, adds up to noise of about the
    same size in every component. Its size is estimated from what the components leave of each
    gene.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of components. There are fewer if there are fewer cells or genes. "auto" takes
        those that also vary smoothly in cells that they were not found on, at least 20 and at
        most 50, see the notes. `components_` then has as many rows. Of 50 genes or fewer there is
        nothing to reduce: with "auto", they are passed on as they are.
    n_neighbors : int, default=24
        Number of nearest neighbors within the section, at most a tenth of its cells.
    smoothing : float, default=0.5
        Share of the neighbors in the smoothed value. 0 is ordinary PCA.
    autocorrelation_power : float, default=0.25
        Genes are weighted by this power of their Moran's I on the reference, relative to the
        highest. 0 gives all genes the same weight.
    component_power : float, default=1.0
        Components are weighted by this power of their Moran's I, relative to the highest. 0
        gives all components the same weight.
    unit_rows : bool, default=True
        Whether to divide each cell's vector by its root mean square over the genes first. The
        length of a vector of z-scores follows the depth of sequencing, and in shallow cells a
        few rare counts make it long.
    random_state : int, RandomState instance or None, default=None
        Seed of the randomized decomposition of large inputs, and of the choice of their rows.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features_in_)
        Orthonormal directions of weighted genes, in order of decreasing variance of the smoothed
        values.
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
    directions_ : ndarray of shape (n_components, n_features_in_)
        What `transform` projects centered rows on: components with all weights in them.
    unit_rows_ : bool
        Whether `transform` divides rows by their lengths: `unit_rows`, but never where genes are
        passed on.
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    sklearn.decomposition.PCA : Components of the values as they are.

    Notes
    -----
    Weighting variance by spatial autocorrelation is the idea of MULTISPATI [1]_. Here the
    smoothed values are decomposed instead of the product of values and neighbor means, which
    keeps all eigenvalues non-negative.

    The noise follows a factor model in which each gene has noise of its own: with residual
    variances psi_g of the genes, a component c has noise of variance sum_g c_g^2 psi_g. `noise_`
    is the square root of its mean over components. If components leave no residuals, because
    there are no more genes or cells than components, the noise is unknown, and a quarter of the
    projections' root mean square replaces it.

    "auto" finds 50 components on each half of the cells of every section, projects the other half
    on them, and takes Moran's I of the six nearest neighbors there. The number of components is
    that of means over the halves above 0.1. Shallow spots have some 10 to 30 such components,
    single cells of an imaging panel up to 50. Panels of so few genes are passed on: weights by
    their smoothness would hide what the less smooth ones tell.

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
        "n_components": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "smoothing": [Interval(Real, 0, 1, closed="both")],
        "autocorrelation_power": [Interval(Real, 0, None, closed="left")],
        "component_power": [Interval(Real, 0, None, closed="left")],
        "unit_rows": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        n_neighbors: int = 24,
        smoothing: float = 0.5,
        autocorrelation_power: float = 0.25,
        component_power: float = 1.0,
        unit_rows: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.smoothing = smoothing
        self.autocorrelation_power = autocorrelation_power
        self.component_power = component_power
        self.unit_rows = unit_rows
        self.random_state = random_state

    @checks_parameters
    def fit(
        self,
        X: ArrayLike | sparse.spmatrix,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
    ) -> Self:
        """Find the components.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, usually z-scored. If there are more than 20,000 rows, components are found
            on 20,000 of them, drawn at random, and their neighbors. No other rows are copied or
            made dense.
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
        if self._passes_on(checked.shape[1]):
            validate_data(self, X, skip_check_array=True)
            return self._pass_on(checked.dtype)
        neighbors = self._neighbors(coords, codes, checked.dtype)
        random_state = check_random_state(self.random_state)
        rows = np.arange(len(codes))
        if len(rows) > _CELLS_FOR_COMPONENTS:
            rows = np.sort(random_state.permutation(rows)[:_CELLS_FOR_COMPONENTS])

        if isinstance(self.n_components, str):
            n_components = self._n_smooth(checked, coords, codes, rows, random_state)
        else:
            n_components = self.n_components
        own, around = self._own_and_around(checked, neighbors, rows)
        mean, feature_weights, pca = self._decompose(own, around, n_components, random_state)
        projected, projected_around = (part @ pca.components_.T for part in (own, around))

        validate_data(self, X, skip_check_array=True)
        # PCA leaves a view. Copied whole it keeps the order of its axes in a pickle, too, and so
        # the last bits of every product with it.
        self.components_: NDArray[np.floating[Any]] = pca.components_.copy(order="K")
        self.mean_: NDArray[np.floating[Any]] = mean
        self.feature_weights_ = feature_weights
        self.component_weights_ = smoothness_weights(
            projected, projected_around, self.component_power
        )
        self.noise_ = noise_of_components(own, projected, pca.components_)
        self.scale_ = self.noise_ / _NOISE
        return self

    def _passes_on(self, n_features: int) -> bool:
        """Whether there is nothing to reduce."""
        return isinstance(self.n_components, str) and n_features <= _AUTO_MOST

    @property
    def unit_rows_(self) -> bool:
        """Whether `transform` divides rows by their lengths."""
        return self.unit_rows and not self._passes_on(self.n_features_in_)

    def _pass_on(self, dtype: Any) -> Self:
        """Let each gene be a component, unweighted."""
        ones = np.ones(self.n_features_in_, dtype=dtype)
        self.components_ = np.diag(ones)
        self.mean_ = np.zeros_like(ones)
        self.feature_weights_ = self.component_weights_ = ones
        self.noise_, self.scale_ = _NOISE, 1.0
        return self

    def _decompose(
        self,
        own: NDArray[np.floating[Any]],
        around: NDArray[np.floating[Any]],
        n_components: int,
        random_state: np.random.RandomState,
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]], PCA]:
        """Means, weights of the genes, and components of smoothed rows.

        The rows are centered and weighted in place.
        """
        mean = own.mean(axis=0)
        own -= mean
        around -= mean
        feature_weights = smoothness_weights(own, around, self.autocorrelation_power)
        own *= feature_weights
        around *= feature_weights
        smoothed = self.smoothing * around
        smoothed += (1 - self.smoothing) * own
        pca = PCA(min(n_components, *own.shape), random_state=random_state).fit(smoothed)
        return mean, feature_weights, pca

    def _n_smooth(
        self,
        X: Any,
        coords: NDArray[np.float64],
        codes: NDArray[np.int64],
        rows: NDArray[np.intp],
        random_state: np.random.RandomState,
    ) -> int:
        """Number of components that vary smoothly in cells that they were not found on."""
        # Dealt evenly, so that both halves have cells of every section.
        rows = rows[np.lexsort((random_state.permutation(len(rows)), codes[rows]))]
        halves = [np.sort(rows[first::2]) for first in (0, 1)]
        if min(map(len, halves)) <= _AUTO_FEWEST:
            return _AUTO_FEWEST
        smooth = np.zeros(_AUTO_MOST)
        for half, other in (halves, halves[::-1]):
            own, around = self._own_and_around(
                X[half], self._neighbors(coords[half], codes[half], X.dtype), np.arange(len(half))
            )
            mean, weights, pca = self._decompose(own, around, _AUTO_MOST, random_state)
            new = X[other]
            new = new.toarray() if sparse.issparse(new) else new
            new = new / lengths(new, self.unit_rows)[:, None]
            projected = (new - mean) * weights @ pca.components_.T
            projected -= projected.mean(axis=0)
            near = knn_weights(
                coords[other], _AUTO_NEIGHBORS, codes=codes[other], max_share=_NEIGHBORHOOD
            )
            cross = np.einsum("ij,ij->j", near @ projected, projected)
            variation = np.einsum("ij,ij->j", projected, projected)
            found = len(cross)
            smooth[:found] += np.divide(
                cross, variation, out=np.zeros(found), where=variation > 0
            ) / len(halves)
        n_smooth = int(np.count_nonzero(smooth > _AUTO_AUTOCORRELATION))
        return min(max(n_smooth, _AUTO_FEWEST), _AUTO_MOST)

    def _neighbors(
        self, coords: NDArray[np.float64], codes: NDArray[np.int64], dtype: Any
    ) -> sparse.csr_matrix:
        """Weights of the spatial neighbors of each cell."""
        neighbors = knn_weights(coords, self.n_neighbors, codes=codes, max_share=_NEIGHBORHOOD)
        return neighbors.astype(dtype)

    def transform(self, X: ArrayLike | sparse.spmatrix) -> NDArray[np.floating[Any]]:
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
        # Products in float32 round otherwise for another layout or number of rows, by what shows
        # in a position.
        directions = np.ascontiguousarray(self.directions_.T, dtype=np.float64)
        offset = self.mean_.astype(np.float64) @ directions
        projected = np.empty((checked.shape[0], directions.shape[1]), dtype=checked.dtype)
        for rows in gen_batches(len(projected), ROWS_AT_A_TIME):
            own = checked[rows]
            sparse_rows = sparse.issparse(own)
            own = own.astype(np.float64) if sparse_rows else np.ascontiguousarray(own, np.float64)
            projected[rows] = own @ directions / lengths(own, self.unit_rows_)[:, None] - offset
        return projected

    @property
    def directions_(self) -> NDArray[np.floating[Any]]:
        """What `transform` projects centered rows on: components with all weights in them."""
        weights = self.component_weights_ / self.scale_
        return weights[:, None] * self.components_ * self.feature_weights_

    def _own_and_around(
        self, X: Any, neighbors: sparse.csr_matrix, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """The given rows of X (unit rows, if so set) and the mean of each one's neighbors.

        Both are dense, and have these rows only.
        """
        per_length = 1 / lengths(X, self.unit_rows)
        own = X[rows]
        weights = neighbors[rows]
        weights.data *= per_length[weights.indices]
        around = weights @ X
        if sparse.issparse(X):
            own, around = own.toarray(), around.toarray()
        own *= per_length[rows, None]
        return own, around

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def lengths(X: Any, unit_rows: bool) -> NDArray[np.floating[Any]]:
    """Divisor of each row: its root mean square, or 1. Rows of zeros stay zero."""
    if not unit_rows:
        return np.ones(X.shape[0], dtype=X.dtype)
    found = (row_norms(X) / np.sqrt(X.shape[1])).astype(X.dtype)
    return np.where(found > 0, found, 1)


def smoothness_weights(
    own: NDArray[np.floating[Any]], around: NDArray[np.floating[Any]], power: float
) -> NDArray[np.floating[Any]]:
    """Weights of columns: a power of Moran's I relative to the highest. All 1 if none is positive.

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
        # Rounding leaves a constant column with a variation that is tiny but positive.
        varies = own.max(axis=0) > own.min(axis=0)
        autocorrelation = np.divide(cross, variation, out=np.zeros_like(cross), where=varies)
        highest = autocorrelation.max()
        if highest > 0:
            weights[:] = np.maximum(autocorrelation / highest, _LEAST_SMOOTH) ** power
    return weights


def noise_of_components(
    centered: NDArray[np.floating[Any]],
    projected: NDArray[np.floating[Any]],
    components: NDArray[np.floating[Any]],
) -> float:
    """Standard deviation that the genes' own noise gives a component, on average.

    It follows from the residual variance of each gene. The residuals themselves, which would be
    as large as the matrix, are not computed.

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
    # |x - P c|^2 of each gene's column x, by P' x and P' P instead of P.
    along = centered.T @ projected
    gram = projected.T @ projected
    total = np.einsum("ng,ng->g", centered, centered)
    residual = total - 2 * np.einsum("gk,kg->g", along, components)
    residual += np.einsum("kg,kl,lg->g", components, gram, components, optimize=True)
    # The components absorb noise, too: their share of all dimensions.
    n_left = n_features - len(components)
    size = float(np.sqrt(np.mean(np.square(projected, dtype=np.float64))))
    if n_left > 0:
        variance = np.maximum(residual, 0) / n_samples * (n_features / n_left)
        noise = float(np.sqrt(np.mean(np.square(components) @ variance)))
        # A smaller value is only what rounding leaves of zero.
        if noise > 10 * np.sqrt(np.finfo(projected.dtype).eps) * size:
            return noise
    return _NOISE * size if size > 0 else 1.0
