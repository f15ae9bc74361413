"""Where a whole other section lies in the frame of the reference, found without any method.

Two sections have no common frame. But a query that is a part of a section can only be judged in
one: after a similarity of its own, a shifted answer looks right. So the whole section is placed by
a plain regression, and the rigid motion that fits this best carries its true positions over. It is
the same for all methods.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from sklearn_dpvae.metrics import procrustes_disparity, spot_spacing
from sklearn_dpvae.preprocessing import LogNormalizer

# Those with the most counts.
_N_GENES = 2000

# Placed worse than this, a section says nothing about its frame.
_MAX_DISPARITY = 0.75


def registered(X, coords, query_X, query_coords):
    """Positions of a whole section in the frame of another one.

    Returns
    -------
    ndarray of shape (n_query, n_dims), or None
        None if the sections resemble each other too little.
    """
    totals = np.asarray(X.sum(axis=0)).ravel()
    genes = np.sort(np.argsort(-totals, kind="stable")[:_N_GENES])
    scores = []
    for counts in (X, query_X):
        logs = LogNormalizer().fit_transform(counts)[:, genes].toarray()
        scores.append(np.clip(StandardScaler().fit_transform(logs), -3, 3))
    middle, unit = coords.mean(axis=0), coords.std()
    svr = make_pipeline(PCA(30, random_state=0), MultiOutputRegressor(SVR()))
    svr.fit(scores[0], (coords - middle) / unit)
    placed = svr.predict(scores[1]) * unit + middle
    if procrustes_disparity(query_coords, placed) > _MAX_DISPARITY:
        return None
    # The regression shrinks, so that its own scale is none. Spots are as far apart in both.
    centered = (query_coords - query_coords.mean(axis=0)) * (
        spot_spacing(coords) / spot_spacing(query_coords)
    )
    left, _, right = np.linalg.svd(centered.T @ (placed - placed.mean(axis=0)))
    # The middle of what is placed is shrunk too, but towards the middle of the reference.
    return centered @ left @ right + placed.mean(axis=0)
