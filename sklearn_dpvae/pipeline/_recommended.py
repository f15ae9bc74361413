"""The recommended chain from counts to positions.

Imports the pipeline, the regressor and the steps before it.
"""

from typing import Any

import numpy as np

from .._regressor import DPVAESpatialRegressor
from ..decomposition import SpatialPCA
from ..feature_selection import SpatiallyVariableGenes
from ..preprocessing import LogNormalizer, SectionScaler
from ._pipeline import SpatialPipeline

# A third of the standard deviation of the noise in what `SpatialPCA` returns.
_INPUT_NOISE = 0.08


def make_spatial_pipeline(
    *,
    query: str = "auto",
    n_top_genes: int = 2000,
    n_spatial_components: int | str | None = "auto",
    n_thinned: int = 5,
    n_calibration_folds: int | None = 4,
    memory: Any = None,
    verbose: int = 0,
    random_state: int | np.random.RandomState | None = None,
    **regressor_params: Any,
) -> SpatialPipeline:
    """Make the recommended chain: counts in, positions out.

    The steps are: library-size normalization and logarithm; selection of the genes with the most
    spatial autocorrelation in the reference, among those that at least one percent of its cells
    express; z-scores by section, clipped at 3; components of spatially smoothed expression;
    `DPVAESpatialRegressor`.

    Parameters
    ----------
    query : {"auto", "same_section", "new_section"}, default="auto"
        Whether cells without positions are z-scored by the statistics of the reference
        ("same_section"), or by their own ("new_section"), which removes the shift of another
        slide or chemistry, but also what sets a part of a tissue apart. "auto" decides by whether
        cells come to resemble those of the reference, see `SectionScaler`. `predict` then needs
        all cells of a query in one call, and their positions depend on each other; with
        "same_section" they do not.
    n_top_genes : int, default=2000
        Number of genes to keep.
    n_spatial_components : int, "auto" or None, default="auto"
        Number of components that `SpatialPCA` projects the genes on. "auto" takes 20 to 50, as
        many as vary smoothly; a panel of 50 genes or fewer is passed on as it is. None gives the
        genes themselves to the net in any case, as in the paper.
    n_thinned : int, default=5
        Shallower measurements of each cell that the networks are trained on beside its own, see
        `SpatialPipeline`. Pass the query to `fit` as `query_counts` where its depth is another.
    n_calibration_folds : int or None, default=4
        Parts of the reference that are left out in turn, for one to two and a half times the time
        of the fit itself. They calibrate radii and standard deviations, teach a network to tell
        places, and tell whether medians of the places where a cell may be are closer than what
        the networks of the map say. None saves that time, in a search for
        instance; radii are then too small, and positions those of the networks.
    memory : str or object with the joblib.Memory interface, default=None
        Where the fitted preprocessing is cached, which saves time in a grid search over
        parameters of the regressor.
    verbose : int, default=0
        1 shows progress bars of the selection of genes, the training and the calibration; 2
        prints a line per epoch instead of the bar of the training.
    random_state : int, RandomState instance or None, default=None
        Seed of the components and of the training.
    **regressor_params : dict
        Parameters of `DPVAESpatialRegressor`. `input_noise` defaults to 0.08 here, a third of
        the noise in the components.

    Returns
    -------
    SpatialPipeline
        Its steps are "normalize", "genes", "scale", "components" and "dpvae". A grid search
        names their parameters ``dpvae__distance_weight``, ``genes__n_top_genes`` and so on.

    See Also
    --------
    make_paper_pipeline : The recipe of the paper, to compare with.
    sklearn_dpvae.pipeline.SpatialPipeline : The class, for chains of other steps.

    Examples
    --------
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> reference, query = slice(0, 250), slice(250, 300)
    >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
    >>> pipe = pipe.fit(tissue.X[reference], tissue.coords[reference])
    >>> pipe.predict(tissue.X[query]).shape
    (50, 2)
    """
    components: Any = "passthrough"
    if n_spatial_components is not None:
        components = SpatialPCA(n_spatial_components, random_state=random_state)
    defaults = {"verbose": verbose, "random_state": random_state, "input_noise": _INPUT_NOISE}
    regressor = DPVAESpatialRegressor(**defaults | regressor_params)
    return SpatialPipeline(
        [
            # The pseudocount that suits an overdispersion of 1/16.
            ("normalize", LogNormalizer(pseudocount=4.0)),
            ("genes", SpatiallyVariableGenes(n_top_genes, min_cells=0.01, verbose=verbose)),
            # Rare counts in shallow cells have z-scores of 20 and more.
            ("scale", SectionScaler(query=query, clip=3.0)),
            ("components", components),
            ("dpvae", regressor),
        ],
        memory=memory,
        n_thinned=n_thinned,
        n_calibration_folds=n_calibration_folds,
    )
