"""Where training starts, and how far a step goes."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from sklearn_dpvae import DPVAESpatialRegressor


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    coords = rng.uniform(-500, 500, size=(100, 2))
    return coords @ rng.normal(size=(2, 10)) / 500, coords


def one_step(**params):
    """A single step of plain Adam over all cells."""
    return DPVAESpatialRegressor(
        **{
            "n_estimators": 1,
            "hidden_layer_sizes": (16,),
            "batch_size": None,
            "max_epochs": 1,
            "lr_schedule": "constant",
            "weight_decay": 0.0,
            "random_state": 0,
        }
        | params
    )


@pytest.mark.filterwarnings("ignore:no two values of X differ")
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_c_starts_as_the_ratio_of_latent_to_tissue_distances(cells, size):
    """Whatever the latents of the random weights are; the step is too small to change them."""
    X, coords = cells
    model = one_step(lr=1e-9).fit(size * X, coords)
    ratio = pdist(model.transform(size * X)).mean() / pdist(coords).mean()
    assert model.scale_ == pytest.approx(ratio, rel=1e-4)
    # The history's is for positions of unit root mean square along an axis.
    unit = np.sqrt(np.mean((coords - coords.mean(axis=0)) ** 2))
    assert model.history_[0]["scale"] == pytest.approx(ratio * unit, rel=1e-4)


@pytest.mark.parametrize(
    ("method", "share"), [("fit", 1.0), ("partial_fit", 0.1)], ids=["warm start", "fine-tuning"]
)
def test_fine_tuning_takes_a_tenth_of_the_learning_rate(cells, method, share):
    """The first step of Adam moves each weight that has a gradient by the learning rate."""
    model = one_step(lr=0.02, warm_start=True).fit(*cells)
    before = torch.nn.utils.parameters_to_vector(model.module_.parameters()).detach()
    getattr(model, method)(*cells)
    after = torch.nn.utils.parameters_to_vector(model.module_.parameters()).detach()
    moved = (after - before).abs()
    assert moved.max().item() == pytest.approx(share * 0.02, rel=1e-3)
    assert moved.median().item() == pytest.approx(share * 0.02, rel=1e-3)
