"""From latents to positions: which frame answers, and that answers are solutions of eq. (6)."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from sklearn_dpvae import DPVAESpatialRegressor


def linear_tissue(n_cells, seed=0):
    """Expression that is a linear image of the positions, and the positions."""
    rng = np.random.default_rng(seed)
    coords = rng.uniform(-1, 1, size=(n_cells, 2)) * [3.0, 1.0]
    return coords @ rng.normal(size=(2, 10)), coords


def quick(**params):
    return DPVAESpatialRegressor(
        **{"n_estimators": 2, "hidden_layer_sizes": (16,), "max_epochs": 10, "random_state": 0}
        | params
    )


@pytest.mark.parametrize("largest", ["a", "b", "c"])
def test_cells_of_no_known_section_are_answered_in_the_frame_of_the_largest(largest):
    """Whichever comes first; the frames lie far apart."""
    sizes = {"a": 30, "b": 40, "c": 50} | {largest: 120}
    labels = np.repeat(list(sizes), list(sizes.values()))
    X, coords = linear_tissue(len(labels))
    coords += 1e3 * (labels[:, None] == ["b", "c"])
    model = quick().fit(X, coords, sections=labels)
    expected = model.predict(X, sections=np.full(len(X), largest))
    np.testing.assert_array_equal(model.predict(X), expected)
    np.testing.assert_array_equal(model.predict(X, sections=np.full(len(X), "new")), expected)
    center = coords[labels == largest].mean(axis=0)
    assert np.linalg.norm(expected.mean(axis=0) - center) < 10


@pytest.mark.parametrize("n_components", [2, 5])
def test_joint_answers_have_the_size_that_latent_distances_ask_for(n_components):
    """No multiple of a solution of eq. (6) fits the latent distances better than itself."""
    X, coords = linear_tissue(200)
    model = quick(n_components=n_components, reconstruction="mds").fit(X[:100], coords[:100])
    placed = pdist(model.predict(X[100:]))
    asked = pdist(model.transform(X[100:])) / model.scale_
    assert (placed @ asked) / (placed @ placed) == pytest.approx(1, abs=1e-6)
