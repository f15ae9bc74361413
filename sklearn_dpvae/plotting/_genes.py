"""The expression of genes on the tissue, and cells in the latent space."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from ..inspection import marker_genes
from ._common import as_map, call, get_axes, legend_beside, plane, same_length, scatter


class GeneMapDisplay:
    """The expression of some genes on a map, one panel per gene (the paper's Figure 12).

    Create it with `from_estimator`, which picks the genes that matter most for the predicted
    positions, or with `from_predictions`.

    Parameters
    ----------
    coords : ndarray of shape (n_cells, n_dims)
        Positions: measured, predicted, or latent.
    expression : ndarray of shape (n_cells, n_genes)
        Values that the cells are colored by.
    genes : sequence of str
        Names of the columns of `expression`.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : ndarray of Axes
        One for each gene.

    See Also
    --------
    sklearn_dpvae.inspection.marker_genes : The genes that matter most for predicted positions.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.plotting import GeneMapDisplay
    >>> tissue = make_tissue(200, 20, random_state=0)
    >>> display = GeneMapDisplay.from_predictions(
    ...     tissue.coords, tissue.X, tissue.genes, show=tissue.genes[:2]
    ... )
    >>> len(display.ax_)
    2
    """

    def __init__(
        self, coords: NDArray[np.float64], expression: NDArray[np.float64], genes: Sequence[str]
    ) -> None:
        self.coords = coords
        self.expression = expression
        self.genes = genes

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        genes: ArrayLike,
        n: int = 6,
        sections: ArrayLike | None = None,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "GeneMapDisplay":
        """Draw the genes that matter most for predicted positions.

        Parameters
        ----------
        estimator : estimator
            A fitted pipeline or regressor, as `marker_genes` takes it.
        X : {array-like, sparse matrix} of shape (n_cells, n_genes)
            Counts.
        y : array-like of shape (n_cells, n_dims), default=None
            Positions to draw the cells at. None takes the predicted ones.
        genes : array-like of shape (n_genes,)
            Names of the columns of `X`.
        n : int, default=6
            Number of genes to draw.
        sections : array-like of shape (n_cells,), default=None
            Section of each row.
        ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        GeneMapDisplay
        """
        show = marker_genes(estimator, X, n, sections=sections, genes=genes).tolist()
        coords = call(estimator.predict, X, sections) if y is None else y
        return cls.from_predictions(coords, X, genes, show=show, ax=ax, **scatter_options)

    @classmethod
    def from_predictions(
        cls,
        coords: ArrayLike,
        X: Any,
        genes: ArrayLike,
        *,
        show: Sequence[str],
        log: bool = True,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "GeneMapDisplay":
        """Draw genes by name.

        Parameters
        ----------
        coords : array-like of shape (n_cells, n_dims)
            Positions of any kind.
        X : {array-like, sparse matrix} of shape (n_cells, n_genes)
            Counts, or expression of another kind.
        genes : array-like of shape (n_genes,)
            Names of the columns of `X`.
        show : sequence of str
            Names of the genes to draw.
        log : bool, default=True
            Whether to draw log(1 + x). Values are drawn as they are if any is negative.
        ax : array of matplotlib Axes, default=None
            One for each gene. None creates a figure.
        **scatter_options : dict
            Options of `plot` (`unit` and others) and of `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        GeneMapDisplay

        Raises
        ------
        ValueError
            If `show` is empty, or names a gene that is not among `genes`.
        """
        names = np.asarray(genes).astype(str).tolist()
        absent = [name for name in show if name not in names]
        if not len(show):
            raise ValueError("show is empty. Name at least one gene to draw.")
        if absent:
            raise ValueError(
                f"show has names that are not in genes: {absent}. Check their spelling, or leave "
                "them out."
            )
        columns = [names.index(name) for name in show]
        X = X if sp.issparse(X) else np.asarray(X)
        part = X.tocsc()[:, columns].toarray() if sp.issparse(X) else X[:, columns]
        part = part.astype(np.float64)
        if log and part.min() >= 0:
            part = np.log1p(part)
        points = plane(coords, "coords")
        same_length(coords=points, X=part)
        return cls(points, part, list(show)).plot(ax, **scatter_options)

    def plot(
        self,
        ax: Any = None,
        *,
        unit: str | None = None,
        y_axis: str = "auto",
        **scatter_options: Any,
    ) -> "GeneMapDisplay":
        """Draw the maps.

        Parameters
        ----------
        unit : str, default=None
            Unit of the positions, such as ``"µm"``, for a scale bar and labels. Positions in
            pixels (``"px"``) are drawn downward, as images are.
        y_axis : {"auto", "up", "down"}, default="auto"
            Which way the second coordinate runs; "auto" follows the unit.
        ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        GeneMapDisplay
        """
        axes = get_axes(ax, len(self.genes), n_columns=3, size=(3.2, 2.9))
        for each, gene, values in zip(axes, self.genes, self.expression.T, strict=True):
            # Draw high expression last, so that it is not covered.
            order = np.argsort(values, kind="stable")
            drawn = scatter(each, self.coords[order], values[order], **scatter_options)
            each.figure.colorbar(drawn, ax=each, shrink=0.7)
            as_map(each, str(gene), unit=unit, y_axis=y_axis)
        self.ax_ = axes
        self.figure_ = axes[0].figure
        return self


class LatentDisplay:
    """Cells in the latent space (the paper's Figure 12).

    Create it with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    latents : ndarray of shape (n_cells, n_components)
        Latent means.
    color : array-like of shape (n_cells,) or (n_cells, 3), default=None
        Numbers, labels or RGB values to color the cells by. None colors all alike.
    components : tuple of int, default=(0, 1)
        The two latent components to draw, counted from 0.
    label : str, default=None
        Title of the color bar or legend: what the colors stand for.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import numpy as np
    >>> from sklearn_dpvae.plotting import LatentDisplay
    >>> latents = np.random.default_rng(0).normal(size=(50, 3))
    >>> display = LatentDisplay.from_predictions(latents, color=latents[:, 2])
    >>> display.ax_.get_xlabel()
    'latent 0'
    """

    def __init__(
        self,
        latents: NDArray[np.float64],
        *,
        color: ArrayLike | None = None,
        components: tuple[int, int] = (0, 1),
        label: str | None = None,
    ) -> None:
        self.latents = latents
        self.color = color
        self.components = components
        self.label = label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        color: ArrayLike | None = None,
        components: tuple[int, int] = (0, 1),
        label: str | None = None,
        sections: ArrayLike | None = None,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "LatentDisplay":
        """Draw the latents of an estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `transform`.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the estimator takes.
        color, components, label
            See the class.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, passed to `transform` if it takes `sections`.
        ax : matplotlib Axes, default=None
            None creates a figure.
        **scatter_options : dict
            Passed to `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        LatentDisplay
        """
        return cls.from_predictions(
            call(estimator.transform, X, sections),
            color=color,
            components=components,
            label=label,
            ax=ax,
            **scatter_options,
        )

    @classmethod
    def from_predictions(
        cls,
        latents: ArrayLike,
        *,
        color: ArrayLike | None = None,
        components: tuple[int, int] = (0, 1),
        label: str | None = None,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "LatentDisplay":
        """Draw latents.

        Parameters
        ----------
        latents : array-like of shape (n_cells, n_components)
            Latent means.
        color, components, label
            See the class.
        ax, **scatter_options
            See `from_estimator`.

        Returns
        -------
        LatentDisplay

        Raises
        ------
        ValueError
            If the latents have fewer components than `components` asks for.
        """
        points = np.asarray(latents, dtype=np.float64)
        if points.ndim != 2 or max(components) >= points.shape[1]:
            raise ValueError(
                f"components={components} asks for more than latents of shape {points.shape} "
                "have. Components are counted from 0."
            )
        same_length(latents=points, color=color)
        display = cls(points, color=color, components=components, label=label)
        return display.plot(ax, **scatter_options)

    def plot(self, ax: Any = None, **scatter_options: Any) -> "LatentDisplay":
        """Draw the cells.

        Parameters
        ----------
        ax, **scatter_options
            See `from_estimator`.

        Returns
        -------
        LatentDisplay
        """
        (axes,) = get_axes(ax, 1, n_columns=1, size=(5.0, 4.2))
        points = self.latents[:, list(self.components)]
        if self.color is None:
            scatter(
                axes, points, np.tile([0.0, 0.447, 0.698], (len(points), 1)), **scatter_options
            )
        else:
            drawn = scatter(axes, points, self.color, **scatter_options)
            if drawn is not None:
                axes.figure.colorbar(drawn, ax=axes, label=self.label)
            elif axes.get_legend_handles_labels()[0]:
                legend_beside(axes, self.label)
        # The latent space is about distances, so both axes have the same scale.
        axes.set_aspect("equal", adjustable="datalim")
        first, second = self.components
        axes.set(xlabel=f"latent {first}", ylabel=f"latent {second}")
        self.ax_ = axes
        self.figure_ = axes.figure
        return self
