"""Selection of genes that vary much for their mean expression.

May import `_utils`.
"""

import numbers
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from .._utils.matrix import check_matrix, column_moments
from .._utils.validation import check_sections, checks_parameters
from .._utils.warn import warn
from ._base import GeneSelector
from ._dispersion import select_by_dispersion, select_by_variance


class HighlyVariableGenes(GeneSelector):
    """Keep the genes that vary most for their mean expression.

    The picks are those of ``scanpy.pp.highly_variable_genes``.

    Parameters
    ----------
    n_top_genes : int, default=2000
        Number of genes to keep. Without sections, the flavors "seurat" and "cell_ranger" also
        keep genes that tie with the last of them.
    flavor : {"seurat", "cell_ranger", "seurat_v3"}, default="seurat"
        How to score variability.

        - "seurat": log dispersion, variance over mean, within bins of the log mean. Needs
          log-normalized expression (`LogNormalizer`).
        - "cell_ranger": dispersion within bins of equally many genes, scored by median and
          median absolute deviation. Needs log-normalized expression.
        - "seurat_v3": variance of the counts after scaling by the standard deviation that a
          loess over all genes predicts from the mean. Needs raw counts, so it comes before
          `LogNormalizer`, which then sees library sizes of the chosen genes only.
    n_bins : int, default=20
        Number of bins (flavor "seurat").
    span : float, default=0.3
        Share of the genes in a neighborhood of the loess (flavor "seurat_v3").

    Attributes
    ----------
    support_ : ndarray of shape (n_features_in_,), dtype bool
        Which genes are kept.
    means_ : ndarray of shape (n_features_in_,)
        Mean expression; for "seurat" log(1 + mean) of the normalized counts.
    dispersions_ : ndarray of shape (n_features_in_,)
        Variance over mean. For "seurat" its logarithm, and NaN for constant genes. Not set by
        "seurat_v3".
    dispersions_norm_ : ndarray of shape (n_features_in_,)
        Dispersions centered and scaled within bins. Not set by "seurat_v3".
    variances_ : ndarray of shape (n_features_in_,)
        Unbiased variances. Only set by "seurat_v3".
    variances_norm_ : ndarray of shape (n_features_in_,)
        Variances after scaling. Only set by "seurat_v3".
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    SpatiallyVariableGenes : Chooses genes by the positions of the cells. Such genes predict
        positions better.

    Notes
    -----
    With sections, genes are scored in each section alone and the scores are averaged. The flavors
    "seurat" and "cell_ranger" prefer genes that are among the top in more sections, then genes of
    higher mean score. The flavor "seurat_v3" prefers genes by their median rank over the sections
    in which they are among the top.

    With metadata routing enabled, `fit` requests `sections` by default.

    References
    ----------
    Satija, R. et al. (2015). Nature Biotechnology 33, 495-502 ("seurat").

    Zheng, G. X. Y. et al. (2017). Nature Communications 8, 14049 ("cell_ranger").

    Stuart, T. et al. (2019). Cell 177, 1888-1902 ("seurat_v3").

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.feature_selection import HighlyVariableGenes
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.poisson(5.0, size=(200, 50))
    >>> counts[:, 2] = rng.poisson(rng.choice([1.0, 9.0], size=200))
    >>> selector = HighlyVariableGenes(n_top_genes=1, flavor="seurat_v3").fit(counts)
    >>> selector.get_feature_names_out()
    array(['x2'], dtype=object)
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_top_genes": [Interval(numbers.Integral, 1, None, closed="left")],
        "flavor": [StrOptions({"seurat", "cell_ranger", "seurat_v3"})],
        "n_bins": [Interval(numbers.Integral, 1, None, closed="left")],
        "span": [Interval(numbers.Real, 0, 1, closed="right")],
    }

    def __init__(
        self,
        n_top_genes: int = 2000,
        flavor: str = "seurat",
        n_bins: int = 20,
        span: float = 0.3,
    ):
        self.n_top_genes = n_top_genes
        self.flavor = flavor
        self.n_bins = n_bins
        self.span = span

    @checks_parameters
    def fit(
        self,
        X: ArrayLike | sparse.spmatrix,
        y: Any = None,
        *,
        sections: ArrayLike | None = None,
    ) -> Self:
        """Score the genes and choose.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Log-normalized expression, or raw counts for "seurat_v3".
        y : None
            Ignored.
        sections : array-like of shape (n_samples,), default=None
            One label per row. None means that all rows are of one section.

        Returns
        -------
        self : HighlyVariableGenes

        Raises
        ------
        ValueError
            If values are NaN, infinite or negative, labels are missing or not one per row, a
            section has a single row, or no gene varies.

        Warns
        -----
        UserWarning
            If the flavor is "seurat_v3" and values are not whole numbers.
        """
        counts = self.flavor == "seurat_v3"
        wanted = (
            "raw counts" if counts else "log-normalized expression, neither centered nor scaled"
        )
        checked = check_matrix(
            X, self, min_samples=2, negative_hint=f"flavor={self.flavor!r} needs {wanted}."
        )
        codes, labels = check_sections(sections, checked.shape[0])
        alone = np.flatnonzero(np.bincount(codes) < 2)
        if len(alone):
            raise ValueError(
                f"section {labels[alone[0]].item()!r} has a single row, which has no variance. "
                "Drop the section or merge it with another."
            )
        parts = [checked[codes == c] for c in range(len(labels))] if len(labels) > 1 else [checked]

        if counts:
            self._warn_of_fractions(checked)
            mean, variance = column_moments(checked)
            scores, support = select_by_variance(parts, self.n_top_genes, self.span)
            variance *= len(codes) / (len(codes) - 1)
            learned = {"means_": mean, "variances_": variance, "variances_norm_": scores}
        else:
            means, dispersions, scores, support = select_by_dispersion(
                parts, self.n_top_genes, self.flavor, self.n_bins
            )
            learned = {"means_": means, "dispersions_": dispersions, "dispersions_norm_": scores}
        if not support.any():
            raise ValueError(
                "no gene of X varies, so no gene is highly variable. Check that X has one row per "
                "cell and that it holds more than one kind of cell."
            )

        validate_data(self, X, skip_check_array=True)
        for name, value in learned.items():
            setattr(self, name, value)
        self.support_ = support
        return self

    @staticmethod
    def _warn_of_fractions(X: Any) -> None:
        values = X.data if sparse.issparse(X) else X
        if not np.array_equal(values, np.rint(values)):
            warn(
                "flavor='seurat_v3' expects raw counts, but X holds values that are not whole "
                "numbers. Put HighlyVariableGenes before LogNormalizer, or use flavor='seurat'."
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags
