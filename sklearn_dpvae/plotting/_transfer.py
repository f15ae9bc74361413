"""The error of transfer between sections, as a matrix."""

from collections.abc import Sequence
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

    Create it with `from_estimator`, or from a matrix that you have computed, followed by `plot`.

    Parameters
    ----------
    errors : array-like of shape (n_references, n_queries)
        Error of each pair: 0 is best, 1 no better than a constant. Cells with NaN stay empty.
    labels : sequence of str
        Names of the reference sections, the rows.
    query_labels : sequence of str, default=None
        Names of the query sections, the columns. None takes `labels`.
    error_name : str, default="Procrustes disparity"
        Name of the error, for the color bar.

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

    def __init__(
        self,
        errors: ArrayLike,
        labels: Sequence[str],
        *,
        query_labels: Sequence[str] | None = None,
        error_name: str = "Procrustes disparity",
    ) -> None:
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
        """Fit a clone on each section, and score it on every other section.

        Parameters
        ----------
        estimator : estimator
            Cloned before each fit. A section is predicted whole, so that the recommended pipeline
            can tell how to z-score it.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the estimator takes.
        y : array-like of shape (n_cells, n_dims)
            Positions, in tissue units.
        sections : array-like of shape (n_cells,)
            Section of each row.
        diagonal : bool, default=False
            Whether to also score each model on the cells that it was fitted on. Those scores do
            not estimate its error, because a model remembers such cells.
        ax : matplotlib Axes, default=None
            None creates a figure.
        **image_options : dict
            Passed to `matplotlib.axes.Axes.imshow`.

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
        """Draw the matrix.

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
            If the numbers of labels do not match the shape of `errors`.
        """
        errors = np.asarray(self.errors, dtype=np.float64)
        columns = self.labels if self.query_labels is None else self.query_labels
        if errors.shape != (len(self.labels), len(columns)):
            raise ValueError(
                f"errors has shape {errors.shape}, but there are {len(self.labels)} labels of "
                f"references and {len(columns)} of queries. Pass one label for each row in labels "
                "and one for each column in query_labels."
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
