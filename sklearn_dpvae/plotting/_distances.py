"""Latent distances against tissue distances, with the band of Theorem 1."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics import DistortionBounds, distortion_bounds
from ..metrics._distances import latent_and_tissue_distances
from ._common import HIGHLIGHT, call, get_axes


class DistanceDisplay:
    r"""Latent distances of pairs of cells against their tissue distances (the paper's Figure 13).

    The solid line is c times the tissue distance. The dashed lines bound the band of Theorem 1,
    which holds the ratios of at least a share :math:`1 - \delta` of the pairs. The dotted lines
    are measured: exactly that share of the pairs lies between them. Create the display with
    `from_estimator` or `from_predictions`.

    Parameters
    ----------
    latent : ndarray of shape (n_pairs,)
        Latent distances.
    tissue : ndarray of shape (n_pairs,)
        Tissue distances, in tissue units.
    bounds : DistortionBounds
        The scale c, the band and the measured quantiles, from `distortion_bounds`.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    hexbin_ : matplotlib PolyCollection
        Number of pairs in each hexagon.
    colorbar_ : matplotlib Colorbar

    See Also
    --------
    sklearn_dpvae.metrics.distortion_bounds : The numbers.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import numpy as np
    >>> from sklearn_dpvae.plotting import DistanceDisplay
    >>> rng = np.random.default_rng(0)
    >>> coords = rng.uniform(size=(100, 2))
    >>> noisy = 2 * coords + 0.1 * rng.normal(size=(100, 2))
    >>> display = DistanceDisplay.from_predictions(noisy, coords)
    >>> len(display.tissue)
    4950
    """

    def __init__(
        self, latent: NDArray[np.float64], tissue: NDArray[np.float64], bounds: DistortionBounds
    ) -> None:
        self.latent = latent
        self.tissue = tissue
        self.bounds = bounds

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        delta: float = 0.1,
        max_pairs: int = 100_000,
        ax: Any = None,
        **hexbin_options: Any,
    ) -> "DistanceDisplay":
        """Draw the distances of an estimator's latents.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `transform`.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the estimator takes.
        y : array-like of shape (n_cells, n_dims)
            Measured positions.
        sections, delta, max_pairs, ax, **hexbin_options
            See `from_predictions`.

        Returns
        -------
        DistanceDisplay
        """
        return cls.from_predictions(
            call(estimator.transform, X, sections),
            y,
            sections=sections,
            delta=delta,
            max_pairs=max_pairs,
            ax=ax,
            **hexbin_options,
        )

    @classmethod
    def from_predictions(
        cls,
        latents: ArrayLike,
        coords: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        delta: float = 0.1,
        max_pairs: int = 100_000,
        ax: Any = None,
        **hexbin_options: Any,
    ) -> "DistanceDisplay":
        """Draw the distances of latents, or of any other map of the cells.

        Parameters
        ----------
        latents : array-like of shape (n_cells, n_components)
            Latent means, or another map of the cells.
        coords : array-like of shape (n_cells, n_dims)
            Measured positions, in tissue units.
        sections : array-like of shape (n_cells,), default=None
            Section of each row. Pairs are formed within sections only.
        delta : float, default=0.1
            Share of pairs that may lie outside the band.
        max_pairs : int, default=100_000
            If there are more pairs, this number is drawn at random, with a fixed seed.
        ax : matplotlib Axes, default=None
            None creates a figure.
        **hexbin_options : dict
            Passed to `matplotlib.axes.Axes.hexbin`.

        Returns
        -------
        DistanceDisplay
        """
        bounds = distortion_bounds(
            latents, coords, delta, max_pairs=max_pairs, sections=sections, random_state=0
        )
        latent, tissue = latent_and_tissue_distances(latents, coords, None, sections, max_pairs, 0)
        return cls(latent, tissue, bounds).plot(ax, **hexbin_options)

    def plot(self, ax: Any = None, **hexbin_options: Any) -> "DistanceDisplay":
        """Draw the distances and the band.

        Parameters
        ----------
        ax, **hexbin_options
            See `from_predictions`.

        Returns
        -------
        DistanceDisplay
        """
        (axes,) = get_axes(ax, 1, n_columns=1, size=(5.4, 4.2))
        options = {"gridsize": 50, "cmap": "viridis", "mincnt": 1, "linewidths": 0.2}
        self.hexbin_ = axes.hexbin(self.tissue, self.latent, **{**options, **hexbin_options})
        bounds, ends = self.bounds, np.array([0.0, np.max(self.tissue)])
        top = 1.05 * np.max(self.latent)
        axes.plot(ends, bounds.scale * ends, color="black", label=f"c = {bounds.scale:.3g}")
        # Lines stop at the top of the axes, so that a wide band does not flatten the rest.
        for values, style, color, text in (
            ((bounds.lower, bounds.upper), "--", HIGHLIGHT, "Theorem 1"),
            ((bounds.observed_lower, bounds.observed_upper), ":", "black", "measured"),
        ):
            share = f"{text}, {bounds.probability:.0%} of pairs"
            for k, slope in enumerate(values):
                if np.isfinite(slope):
                    end = min(ends[1], top / slope) if slope > 0 else ends[1]
                    axes.plot(
                        [0, end],
                        [0, slope * end],
                        style,
                        color=color,
                        linewidth=1.4,
                        label="_" if k else share,
                    )
        axes.set(xlabel="tissue distance", ylabel="latent distance", xlim=(0, None), ylim=(0, top))
        axes.legend(loc="upper left", frameon=True, fontsize="small")
        self.colorbar_ = axes.figure.colorbar(self.hexbin_, ax=axes, label="pairs of cells")
        self.ax_ = axes
        self.figure_ = axes.figure
        return self
