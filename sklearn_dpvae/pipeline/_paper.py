"""The recipe of the paper as a pipeline: genes that vary most, one plain network.

Imports the pipeline, the regressor and the steps before it.
"""

from typing import Any

import numpy as np

from .._regressor import DPVAESpatialRegressor
from ..feature_selection import HighlyVariableGenes
from ..preprocessing import LogNormalizer
from ._pipeline import SpatialPipeline

# What the paper trains, as parameters of the regressor: eq. (4) with alpha = beta = 1 and the ELBO
# summed over genes, and nothing that this package adds to it.
_SETTINGS: dict[str, Any] = {
    "alignment_weight": 0.0,
    "kl_weight": 1.0,
    "elbo_weight": 1.0,
    "distance_loss": "absolute",
    "likelihood": "gaussian",
    "mask": None,
    "hidden_layer_sizes": (128,),
    "n_estimators": 1,
    "max_samples": 1.0,
    "activation": "relu",
    "layer_norm": False,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "input_noise": 0.0,
    "weight_decay": 0.0,
    "batch_size": None,
    "lr": 1e-3,
    "lr_schedule": "constant",
    "max_epochs": 1000,
}


def make_paper_pipeline(
    *,
    distance_weight: float = 100.0,
    n_top_genes: int = 1000,
    memory: Any = None,
    verbose: int = 0,
    random_state: int | np.random.RandomState | None = None,
    **regressor_params: Any,
) -> SpatialPipeline:
    """Make the chain of the paper's experiments: counts in, positions out.

    The steps are: library-size normalization and logarithm; selection of the genes that vary
    most, without a look at positions; a variational autoencoder with one hidden layer in encoder
    and decoder, Gaussian prior, posterior and likelihood, trained by Adam on all cells at once
    with the loss of eq. (4), alpha = beta = 1 and all pairs of cells [1]_. It is there to compare
    with: `make_spatial_pipeline` places cells better.

    Parameters
    ----------
    distance_weight : float, default=100.0
        lambda, the weight of the distance-preserving term; 0 is the paper's plain VAE. The paper
        varies it over decades and names no best one. The default is our choice: the decade with
        the least error on held-out cells (``python -m benchmarks.paper_weight``).
    n_top_genes : int, default=1000
        Number of genes to keep; our choice, too.
    memory : str or object with the joblib.Memory interface, default=None
        Where the fitted preprocessing is cached.
    verbose : int, default=0
        1 shows a progress bar of the training, 2 prints a line per epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of the training.
    **regressor_params : dict
        Parameters of `DPVAESpatialRegressor`, instead of those of the paper. The width of the
        hidden layer (128), the learning rate (0.001) and the number of epochs (1,000) are the
        ones that you may want to change.

    Returns
    -------
    SpatialPipeline
        Its steps are "normalize", "genes" and "dpvae". Radii are not calibrated: set
        `n_calibration_folds` for that.

    See Also
    --------
    make_spatial_pipeline : The recommended chain.

    References
    ----------
    .. [1] Zhou, W. & Du, J.-H. (2024). Distance-Preserving Spatial Representations in Genomic
       Data. arXiv:2408.00911.

    Examples
    --------
    >>> from sklearn_dpvae import make_paper_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> reference, query = slice(0, 250), slice(250, 300)
    >>> dp_vae = make_paper_pipeline(max_epochs=3, random_state=0)
    >>> dp_vae = dp_vae.fit(tissue.X[reference], tissue.coords[reference])
    >>> dp_vae.predict(tissue.X[query]).shape
    (50, 2)
    """
    defaults = _SETTINGS | {"verbose": verbose, "random_state": random_state}
    regressor = DPVAESpatialRegressor(
        distance_weight=distance_weight, **defaults | regressor_params
    )
    return SpatialPipeline(
        [
            ("normalize", LogNormalizer()),
            ("genes", HighlyVariableGenes(n_top_genes=n_top_genes)),
            ("dpvae", regressor),
        ],
        memory=memory,
    )
