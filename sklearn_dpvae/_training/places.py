"""Training of the network that tells the place of a cell. Imports the network."""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from .._network.places import PlaceNet
from .._network.random import own_generators

_MOST_STEPS = 400
_BATCH_SIZE = 128
_LR = 5e-3
_WEIGHT_DECAY = 0.05


@torch.inference_mode(False)
@torch.enable_grad()
def train_place_net(
    features: NDArray[np.float64],
    targets: sp.csr_array,
    *,
    n_members: int,
    n_epochs: int,
    seed: int,
) -> PlaceNet:
    """Train members on batches of their own to tell the places of cells.

    This is a regression to probabilities, by cross-entropy. It is short enough for the CPU.

    Parameters
    ----------
    features : ndarray of shape (n_cells, n_features)
    targets : CSR array of shape (n_cells, n_places)
        Probabilities of the places. Rows sum to 1.
    n_members : int
    n_epochs : int
        Most passes over the cells. There are 400 steps at most in any case.
    seed : int

    Returns
    -------
    PlaceNet
        In evaluation mode.
    """
    n_cells, n_places = targets.shape
    n_steps = min(n_epochs * -(-n_cells // _BATCH_SIZE), _MOST_STEPS)
    x = torch.from_numpy(features.astype(np.float32))
    rng = np.random.default_rng(seed)
    with own_generators(seed, "cpu"):
        net = PlaceNet(x.shape[1], n_places, n_members)
        net.start_at(x)
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=_WEIGHT_DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=n_steps)
        for _ in range(n_steps):
            rows = rng.integers(n_cells, size=n_members * _BATCH_SIZE)
            batch = x[torch.from_numpy(rows)].view(n_members, _BATCH_SIZE, -1)
            wanted = torch.from_numpy(targets[rows].toarray().astype(np.float32))
            loss = -(wanted.view(n_members, _BATCH_SIZE, -1) * net(batch)).sum() / _BATCH_SIZE
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()
