"""Samples of the posterior: their moments, their pose, and how they are asked for."""

import numpy as np
import pytest
import sklearn
import torch

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline


@pytest.fixture
def X(tissue):
    return tissue.X.toarray() / 10.0


def quick(**params):
    return DPVAESpatialRegressor(
        **{"hidden_layer_sizes": (16,), "max_epochs": 3, "n_estimators": 1, "random_state": 0}
        | params
    )


def test_moments_are_those_of_the_posterior(tissue, X):
    model = quick().fit(X, tissue.coords)
    samples = model.sample_latents(X[:20], 4000, random_state=0)
    assert samples.shape == (4000, 20, 2)
    with torch.no_grad():
        _, log_var = model.fitted_.encoder.encode(torch.from_numpy(X[:20]))
    std = (0.5 * log_var[0]).exp().numpy()
    # Four standard errors.
    assert (np.abs(samples.mean(axis=0) - model.transform(X[:20])) < 4 * std / 4000**0.5).all()
    np.testing.assert_allclose(samples.std(axis=0), std, rtol=0.06)
    # Cells are independent given x.
    residuals = samples[:, :, 0] - samples[:, :, 0].mean(axis=0)
    assert np.abs(np.corrcoef(residuals.T) - np.eye(20)).max() < 0.1


def test_members_are_drawn_and_in_the_pose_of_the_first(tissue, X):
    model = quick(n_estimators=3, max_epochs=20).fit(X, tissue.coords)
    fitted = model.fitted_
    samples = model.sample_latents(X, 600, random_state=0)
    means = samples.mean(axis=0)
    spread = samples.std(axis=0)
    assert (np.abs(means - model.transform(X)) < 5 * spread / 600**0.5).all()
    one = fitted.sample(X, 1, np.random.RandomState(1))
    np.testing.assert_array_equal(one, fitted.sample(X, 1, np.random.RandomState(1)))


def test_a_hierarchy_is_sampled_through_all_its_levels(tissue, X):
    model = quick(n_components=(6, 2), max_epochs=10).fit(X, tissue.coords)
    samples = model.sample_latents(X[:10], 2000, random_state=0)
    with torch.no_grad():
        _, log_var = model.fitted_.encoder.encode(torch.from_numpy(X[:10]))
    top_alone = (0.5 * log_var[0]).exp().numpy()
    # The noise of the level below comes on top of the top level's own.
    assert samples.std(axis=0).mean() > 1.02 * top_alone.mean()


def test_seed_dtype_and_the_callers_generators(tissue, X):
    model = quick().fit(X, tissue.coords)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = model.sample_latents(X.astype(np.float32), 2, random_state=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(
        first, model.sample_latents(X.astype(np.float32), 2, random_state=3)
    )
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, model.sample_latents(X.astype(np.float32), 2, random_state=4))
    for n_samples in (0, 1.5, "2"):
        with pytest.raises(ValueError, match="n_samples must be a whole number"):
            model.sample_latents(X, n_samples)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.filterwarnings("ignore:5 of the model's 60 genes")
def test_pipelines_hand_on_labels_and_missing_genes(tissue, routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        pipe = make_spatial_pipeline(
            max_epochs=2, n_estimators=1, n_calibration_folds=None, random_state=0
        )
        pipe.fit(tissue.X, tissue.coords, sections=tissue.sections)
        missing = np.arange(tissue.X.shape[1]) < 5
        given = {"sections": tissue.sections, "missing_genes": missing}
        samples = pipe.sample_latents(tissue.X, 300, random_state=0, **given)
        np.testing.assert_allclose(
            samples.mean(axis=0),
            pipe.transform(tissue.X, **given),
            atol=6 * samples.std(axis=0).max() / 300**0.5,
        )
