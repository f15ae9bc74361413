"""The matrix of transfer between sections."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from .._utils.matrix import check_matrix
from .._utils.validation import check_sections
from ..metrics import procrustes_disparity
from ._common import get_axes


class TransferMatrixDisplay:
    """Error of models fitted on one section and applied to another (the paper's Figure 11).

    Make it by `from_estimator`, or of a matrix at hand.

    Parameters
    ----------
    errors : array-like of shape (n_references, n_queries)
        Error of each pair, 0 best and 1 no better than a constant. NaN is left empty.
    labels : sequence of str
        Names of the sections: of rows and columns, or of rows only.
    query_labels : sequence of str, default=None
        Names of the columns, if they are others.
    error_name : str, default="Procrustes disparity"

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    image_ : matplotlib AxesImage
    colorbar_ : matplotlib Colorbar

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn_dpvae.plotting import TransferMatrixDisplay
    >>> display = TransferMatrixDisplay([[0.1, 0.4], [0.5, 0.2]], ["a", "b"]).plot()
    >>> [text.get_text() for text in display.ax_.texts]
    ['0.10', '0.40', '0.50', '0.20']
    """

    def __init__(self, errors, labels, *, query_labels=None, error_name="Procrustes disparity"):
        self.errors = errors
        self.labels = labels
        self.query_labels = query_labels
        self.error_name = error_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sections: ArrayLike,
        diagonal: bool = False,
        ax: Any = None,
        **image_options: Any,
    ) -> "TransferMatrixDisplay":
        """Fit a clone on each section, and score it on every other one.

        Parameters
        ----------
        estimator : estimator
            It is cloned. Give the recommended pipeline ``query="new_section"``.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        y : array-like of shape (n_cells, n_dims)
            Positions.
        sections : array-like of shape (n_cells,)
            Section of each row.
        diagonal : bool, default=False
            Whether to score each model on the cells that it was fitted on, too. That is no
            estimate of anything: such cells are remembered.
        ax : matplotlib Axes, default=None
        **image_options : dict
            For `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        TransferMatrixDisplay
        """
        X = check_matrix(X, estimator, dtype="numeric")
        y = np.asarray(y, dtype=np.float64)
        codes, labels = check_sections(sections, X.shape[0])
        errors = np.full((len(labels), len(labels)), np.nan)
        for reference in range(len(labels)):
            rows = codes == reference
            model = clone(estimator).fit(X[rows], y[rows])
            for query in range(len(labels)):
                if query != reference or diagonal:
                    rows = codes == query
                    errors[reference, query] = procrustes_disparity(
                        y[rows], model.predict(X[rows])
                    )
        return cls(errors, labels.astype(str).tolist()).plot(ax, **image_options)

    def plot(self, ax: Any = None, **image_options: Any) -> "TransferMatrixDisplay":
        """Draw.

        Parameters
        ----------
        ax, **image_options
            See `from_estimator`.

        Returns
        -------
        TransferMatrixDisplay

        Raises
        ------
        ValueError
            If the labels do not match the matrix.
        """
        errors = np.asarray(self.errors, dtype=np.float64)
        columns = self.labels if self.query_labels is None else self.query_labels
        if errors.shape != (len(self.labels), len(columns)):
            raise ValueError(
                f"errors has shape {errors.shape}, but there are {len(self.labels)} labels of "
                f"references and {len(columns)} of queries."
            )
        size = (0.8 * len(columns) + 2.4, 0.7 * len(self.labels) + 1.4)
        (axes,) = get_axes(ax, 1, n_columns=1, size=size)
        options = {"cmap": "viridis", "vmin": 0, "vmax": 1, **image_options}
        self.image_ = axes.imshow(errors, **options)
        for (row, column), value in np.ndenumerate(errors):
            if not np.isnan(value):
                shade = self.image_.cmap(self.image_.norm(value))[:3]
                light = np.dot(shade, (0.299, 0.587, 0.114)) > 0.5
                axes.text(
                    column,
                    row,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    color="black" if light else "white",
                )
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        axes.set_yticks(range(len(self.labels)), self.labels)
        axes.set(xlabel="query", ylabel="reference")
        self.colorbar_ = axes.figure.colorbar(self.image_, ax=axes, label=self.error_name)
        self.ax_ = axes
        self.figure_ = axes.figure
        return self
