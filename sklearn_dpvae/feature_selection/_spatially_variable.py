"""Selection of genes whose expression clusters in space.

May import `_utils`.
"""

import logging
import numbers
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.stats import norm
from sklearn.utils._param_validation import Interval, RealNotInt
from sklearn.utils.validation import validate_data

from .._utils.autocorrelation import knn_weights, morans_i, morans_i_null
from .._utils.matrix import check_matrix
from .._utils.validation import check_coords, check_sections, checks_parameters
from ._base import GeneSelector

logger = logging.getLogger(__name__)


class SpatiallyVariableGenes(GeneSelector):
    """Keep the genes whose expression clusters most in space, by Moran's I.

    Moran's I of a gene is computed on the graph of nearest neighbors of the reference positions.
    Each section is treated on its own, so that sections may have unrelated frames::

        I = n / S0 * sum_ij w_ij (x_i - m) (x_j - m) / sum_i (x_i - m)^2

    with weights w_ij = 1 / `n_neighbors` for the neighbors j of i, and S0 the sum of all weights.
    The graph is directed: it is not symmetrized. I is averaged over sections, weighted by their
    numbers of cells.

    Parameters
    ----------
    n_top_genes : int, default=1000
        Number of genes to keep, those of the highest I. All are kept if there are fewer. Constant
        genes have no I and come last. None keeps all that `max_pvalue` and `min_cells` admit.
    n_neighbors : int, default=6
        Number of nearest neighbors in the graph. In a section of fewer cells all the others are
        neighbors.
    max_pvalue : float, default=None
        If given, keep only genes with a p-value up to this. The p-values are not adjusted for
        the number of genes.
    min_cells : int or float, default=0
        Keep only genes that are not zero in at least this many cells (int), or in at least this
        share of the cells (float).
    verbose : int, default=0
        1 shows on a progress bar how many genes are done, for each section.

    Attributes
    ----------
    support_ : ndarray of shape (n_features_in_,), dtype bool
        Which genes are kept.
    morans_i_ : ndarray of shape (n_features_in_,)
        Moran's I. A section in which a gene is constant counts with the value expected without
        clustering, -1 / (n - 1). NaN for genes that are constant in every section.
    scores_ : ndarray of shape (n_features_in_,)
        z-scores of I under the hypothesis that values are independent and normal.
    pvalues_ : ndarray of shape (n_features_in_,)
        One-sided p-values: the probability of an I at least as high under that hypothesis.
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    HighlyVariableGenes : Chooses genes without positions.

    Notes
    -----
    I does not change if a gene is shifted or scaled. Pass log-normalized expression: in raw
    counts, genes that only follow the library size seem to cluster.

    With metadata routing enabled, `fit` requests `sections` by default.

    References
    ----------
    Moran, P. A. P. (1950). Notes on continuous stochastic phenomena. Biometrika 37, 17-23.

    Cliff, A. D. and Ord, J. K. (1981). Spatial Processes: Models and Applications. Pion.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.feature_selection import SpatiallyVariableGenes
    >>> rng = np.random.default_rng(0)
    >>> coords = rng.uniform(size=(200, 2))
    >>> X = rng.normal(size=(200, 4))
    >>> X[:, 3] += 3 * coords[:, 0]
    >>> selector = SpatiallyVariableGenes(n_top_genes=1).fit(X, coords)
    >>> selector.get_support()
    array([False, False, False,  True])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_top_genes": [None, Interval(numbers.Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(numbers.Integral, 1, None, closed="left")],
        "max_pvalue": [None, Interval(numbers.Real, 0, 1, closed="right")],
        "min_cells": [
            Interval(numbers.Integral, 0, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="both"),
        ],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_top_genes: int | None = 1000,
        n_neighbors: int = 6,
        max_pvalue: float | None = None,
        min_cells: float = 0,
        verbose: int = 0,
    ):
        self.n_top_genes = n_top_genes
        self.n_neighbors = n_neighbors
        self.max_pvalue = max_pvalue
        self.min_cells = min_cells
        self.verbose = verbose

    @checks_parameters
    def fit(
        self,
        X: ArrayLike | sparse.spmatrix,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
    ) -> Self:
        """Compute Moran's I of the genes and choose.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, usually log-normalized. Sparse input is made dense only a few genes at a
            time.
        y : array-like of shape (n_samples,) or (n_samples, n_dims)
            Positions of the rows, in any unit.
        sections : array-like of shape (n_samples,), default=None
            One label per row. None means that all rows are of one section.

        Returns
        -------
        self : SpatiallyVariableGenes

        Raises
        ------
        ValueError
            If values or positions are missing, NaN or infinite, labels are missing or not one per
            row, a section has fewer than three cells or no extent, or no gene is admitted.
        """
        if y is None:
            raise ValueError(
                "SpatiallyVariableGenes requires y to be passed, but the target y is None. "
                "Pass the positions of the rows of X as y."
            )
        checked = check_matrix(X, self, dtype="numeric")
        codes, labels = check_sections(sections, checked.shape[0])
        coords = check_coords(y, codes, labels, name="y")

        statistics, scores = self._autocorrelation(checked, coords, codes)
        pvalues = norm.sf(scores)
        support = self._choose(checked, statistics, pvalues)

        validate_data(self, X, skip_check_array=True)
        self.morans_i_ = statistics
        self.scores_ = scores
        self.pvalues_: NDArray[np.float64] = pvalues
        self.support_ = support
        logger.info("%d of %d genes selected", support.sum(), len(support))
        return self

    def _autocorrelation(
        self, X: Any, coords: NDArray[np.float64], codes: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Moran's I of the genes and its z-scores, averaged over sections."""
        n_features = X.shape[1]
        excess = np.zeros(n_features)
        variance = np.zeros(n_features)
        expectation = 0.0
        for code in np.unique(codes):
            members = codes == code
            share = members.mean()
            weights = knn_weights(coords[members], self.n_neighbors)
            here = X if members.all() else X[members]
            values = morans_i(here, weights, verbose=bool(self.verbose))
            expected, spread = morans_i_null(weights)
            known = ~np.isnan(values)
            excess[known] += share * (values[known] - expected)
            variance[known] += share**2 * spread
            expectation += share * expected

        excess[variance == 0] = np.nan
        with np.errstate(invalid="ignore"):
            return expectation + excess, excess / np.sqrt(variance)

    def _choose(
        self, X: Any, statistics: NDArray[np.float64], pvalues: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Mask of the genes to keep."""
        admitted = np.ones(len(statistics), dtype=bool)
        if self.min_cells > 0:
            is_count = isinstance(self.min_cells, numbers.Integral)
            least = self.min_cells if is_count else self.min_cells * X.shape[0]
            admitted &= np.asarray((X != 0).sum(axis=0)).ravel() >= least
        if self.max_pvalue is not None:
            admitted &= pvalues <= self.max_pvalue
        if not admitted.any():
            raise ValueError(
                f"no gene is expressed in min_cells={self.min_cells} cells with a p-value of at "
                f"most max_pvalue={self.max_pvalue}; the lowest p-value is "
                f"{np.nanmin(pvalues, initial=1.0):.3g}. Lower min_cells or raise max_pvalue."
            )
        if self.n_top_genes is None:
            return admitted
        # NaN sorts last. The sort is stable, so that of genes that tie the first is kept.
        candidates = np.flatnonzero(admitted)
        order = np.argsort(-statistics[candidates], kind="stable")
        support = np.zeros(len(statistics), dtype=bool)
        support[candidates[order[: self.n_top_genes]]] = True
        return support

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags
