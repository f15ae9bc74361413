"""The members of an ensemble become one."""

from copy import deepcopy

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes

from sklearn_dpvae import DPVAESpatialRegressor


def onto(target, source):
    """The source after the similarity that takes it closest to the target."""
    centered = source - source.mean(axis=0)
    rotation, overlap = orthogonal_procrustes(centered, target - target.mean(axis=0))
    return target.mean(axis=0) + overlap / np.sum(centered**2) * centered @ rotation


def test_latents_are_averaged_in_the_pose_of_the_first_member():
    """Pose and size of each member's latents; alignment alone leaves both to chance."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(-1, 1, size=(120, 2)) * [3.0, 1.0]
    X = coords @ rng.normal(size=(2, 10))
    model = DPVAESpatialRegressor(
        n_estimators=4,
        hidden_layer_sizes=(8,),
        distance_weight=0.0,
        max_epochs=20,
        random_state=0,
    ).fit(X, coords)
    with torch.no_grad():
        means, _ = deepcopy(model.module_).double().encode(torch.from_numpy(X))
    first, *others = means.numpy()
    moved = [onto(first, z) for z in others]
    sizes = [np.linalg.norm(z - z.mean(axis=0)) for z in (first, *others)]
    assert max(sizes) > 1.2 * min(sizes)
    expected = np.mean([first, *moved], axis=0)
    np.testing.assert_allclose(model.transform(X), expected, atol=1e-5 * np.abs(expected).max())
