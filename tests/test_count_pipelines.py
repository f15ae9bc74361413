"""Which counts a likelihood of counts explains at the end of a pipeline."""

import numpy as np
import pytest
from sklearn.feature_selection import VarianceThreshold

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.feature_selection import SpatiallyVariableGenes
from sklearn_dpvae.pipeline import SpatialPipeline
from sklearn_dpvae.preprocessing import LogNormalizer

QUICK = {
    "likelihood": "nb",
    "n_estimators": 2,
    "hidden_layer_sizes": (8,),
    "max_epochs": 2,
    "random_state": 0,
}


def by_hand(pipe, X, coords, counts):
    """The last step alone, given what the others make of X, and these counts."""
    regressor = DPVAESpatialRegressor(**pipe[-1].get_params())
    return regressor.fit(pipe[:-1].transform(X), coords, counts=counts)


def assert_same_model(found, expected):
    latents = np.zeros((1, 2))
    np.testing.assert_array_equal(
        found.inverse_transform(latents), expected.inverse_transform(latents)
    )
    assert found.library_size_ == expected.library_size_


def test_selected_components_are_not_taken_for_genes(tissue):
    """The counts are those of the genes that the components were made of."""
    pipe = SpatialPipeline(
        [
            ("normalize", LogNormalizer()),
            ("genes", SpatiallyVariableGenes(n_top_genes=20)),
            ("components", SpatialPCA(8, random_state=0)),
            ("varying", VarianceThreshold(1e-9)),
            ("dpvae", DPVAESpatialRegressor(**QUICK)),
        ]
    ).fit(tissue.X, tissue.coords)
    chosen = tissue.X[:, pipe["genes"].get_support()]
    assert_same_model(pipe["dpvae"], by_hand(pipe, tissue.X, tissue.coords, chosen))


@pytest.mark.parametrize("name", ["counts", "dpvae__counts"])
def test_the_users_own_counts_are_explained(tissue, name):
    """They replace the counts of the selected genes, by either name of the argument."""
    own = tissue.X[:, ::2].toarray()
    pipe = make_spatial_pipeline(n_top_genes=20, n_spatial_components=8, n_thinned=0, **QUICK)
    pipe.fit(tissue.X, tissue.coords, **{name: own})
    assert_same_model(pipe["dpvae"], by_hand(pipe, tissue.X, tissue.coords, own))
