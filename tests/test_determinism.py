"""An integer seed gives the same numbers, however the work is spread over workers."""

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import ProcrustesScorer


def quick(**params):
    return make_spatial_pipeline(
        n_spatial_components=8,
        **{
            "n_estimators": 2,
            "hidden_layer_sizes": (16,),
            "max_epochs": 3,
            "batch_size": 32,
            "n_calibration_folds": None,
            "random_state": 0,
        }
        | params,
    )


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_cross_validation_with_one_worker_and_with_two(tissue, backend, likelihood, routing):
    options = {
        "scoring": ProcrustesScorer(sections=None if routing else "single"),
        "cv": KFold(2, shuffle=True, random_state=0),
        "params": {"sections": tissue.sections},
    }
    pipe = quick(likelihood=likelihood, n_calibration_folds=2)
    alone = cross_val_score(pipe, tissue.X, tissue.coords, n_jobs=1, **options)
    with joblib.parallel_config(backend=backend):
        spread = cross_val_score(pipe, tissue.X, tissue.coords, n_jobs=2, **options)
    np.testing.assert_array_equal(alone, spread)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_searches_with_one_worker_and_with_two(tissue, backend):
    grid = {"dpvae__mask": ["knn", "clusters"], "genes__n_top_genes": [20]}
    results = []
    for n_jobs in (1, 2):
        with joblib.parallel_config(backend=backend):
            search = GridSearchCV(quick(), grid, cv=2, n_jobs=n_jobs, error_score="raise")
            search.fit(tissue.X, tissue.coords, sections=tissue.sections)
        results.append(search)
    alone, spread = results
    np.testing.assert_array_equal(
        alone.cv_results_["mean_test_score"], spread.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(alone.predict(tissue.X), spread.predict(tissue.X))
