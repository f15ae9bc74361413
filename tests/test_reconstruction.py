"""AnchoredMDS: the estimator around anchored_smacof."""

import pickle

import numpy as np
import pytest
import sklearn
from scipy.spatial.distance import pdist, squareform
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from sklearn_dpvae.reconstruction import AnchoredMDS, anchored_smacof


@pytest.fixture
def tissue_points():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 500, size=(60, 2))
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    return points, 0.1 * points @ turn


def test_it_is_the_twin_of_the_function(tissue_points):
    points, latents = tissue_points
    known = np.array([3, 50, 7, 21])
    mds = AnchoredMDS(random_state=0)
    embedding = mds.fit_transform(latents, anchors=(known, points[known]))
    result = anchored_smacof(latents=latents, anchors=(known, points[known]), random_state=0)
    np.testing.assert_array_equal(embedding, result.embedding)
    np.testing.assert_array_equal(mds.embedding_, embedding)
    assert (mds.stress_, mds.n_iter_, mds.scale_) == (result.stress, result.n_iter, result.scale)
    np.testing.assert_array_equal(embedding[known], points[known])
    np.testing.assert_allclose(embedding, points, atol=1e-6)
    assert mds.scale_ == pytest.approx(0.1)
    assert mds.get_feature_names_out().tolist() == ["anchoredmds0", "anchoredmds1"]


def test_precomputed_gives_the_same(tissue_points):
    points, latents = tissue_points
    anchors = (np.arange(5), points[:5])
    matrix = squareform(pdist(latents))
    mds = AnchoredMDS(dissimilarity="precomputed").fit(matrix, anchors=anchors)
    np.testing.assert_allclose(mds.embedding_, points, atol=1e-6)
    assert mds.__sklearn_tags__().input_tags.pairwise
    with pytest.raises(ValueError, match="one row and one column per point"):
        AnchoredMDS(dissimilarity="precomputed").fit(latents)


def test_refused_anchors_leave_nothing_behind(tissue_points):
    _, latents = tissue_points
    mds = AnchoredMDS()
    with pytest.raises(ValueError, match="at least 3 are needed"):
        mds.fit(latents, anchors=([0, 1], [[0.0, 0.0], [1.0, 1.0]]))
    with pytest.raises(NotFittedError):
        check_is_fitted(mds)


def test_weights_are_a_mask(tissue_points):
    points, latents = tissue_points
    spoilt = latents.copy()
    spoilt[-1] += 100.0
    mask = np.ones((60, 60))
    mask[-1, :] = mask[:, -1] = 0.0
    mask[-1, :4] = mask[:4, -1] = 1e-9
    mds = AnchoredMDS(scale=0.1).fit(spoilt, anchors=(np.arange(4), points[:4]), weights=mask)
    np.testing.assert_allclose(mds.embedding_[:-1], points[:-1], atol=1e-3)


def test_anchors_reach_it_through_a_pipeline(tissue_points):
    points, latents = tissue_points
    anchors = np.full((60, 2), np.nan)
    anchors[:5] = points[:5]
    pipe = make_pipeline(FunctionTransformer(), AnchoredMDS())
    embedding = pipe.fit_transform(latents, anchoredmds__anchors=anchors)
    np.testing.assert_allclose(embedding, points, atol=1e-6)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = pipe.fit_transform(latents, anchors=anchors)
    np.testing.assert_array_equal(routed, embedding)


@pytest.mark.parametrize("kind", ["pickle", "clone"])
def test_copies(tissue_points, kind):
    _, latents = tissue_points
    mds = AnchoredMDS(random_state=3, init="random", n_init=2).fit(latents)
    other = pickle.loads(pickle.dumps(mds)) if kind == "pickle" else clone(mds).fit(latents)
    np.testing.assert_array_equal(other.embedding_, mds.embedding_)
