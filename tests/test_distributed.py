"""The same search on one process, on two, and on a cluster of dask."""

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.model_selection import SpatialBlockKFold


@pytest.fixture(scope="module")
def search_on():
    """Run a small search by a backend of joblib; results without the times."""
    tissue = make_tissue(n_cells=150, n_genes=40, random_state=0)

    def run(**options):
        pipe = make_spatial_pipeline(
            n_estimators=2,
            hidden_layer_sizes=(8,),
            max_epochs=3,
            device="cpu",
            random_state=0,
        )
        grid = {"dpvae__distance_weight": [0.1, 1.0]}
        cv = SpatialBlockKFold(n_splits=2)
        search = GridSearchCV(pipe, grid, cv=cv, **options)
        search.fit(tissue.X, tissue.coords)
        scores = [search.cv_results_[f"split{k}_test_score"] for k in range(2)]
        return np.array(scores), search.best_params_, search.predict(tissue.X[:20])

    return run


@pytest.fixture(scope="module")
def in_one_process(search_on):
    return search_on()


def assert_equal(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    assert found[1] == expected[1]
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-4, atol=1e-6)


def test_search_with_two_jobs_finds_the_same(search_on, in_one_process):
    assert_equal(search_on(n_jobs=2), in_one_process)


def test_search_on_a_dask_cluster_finds_the_same(search_on, in_one_process):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client, parallel_config(backend="dask"):
        found = search_on()
        # Not on this process: tasks were done on the cluster.
        done = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert sum(done.values()) > 0
    assert_equal(found, in_one_process)
