"""Warnings point at the line of the user, whichever way it came into the package."""

import ast
import inspect
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

import sklearn_dpvae
from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.pipeline import SpatialPipeline
from sklearn_dpvae.preprocessing import LogNormalizer

SOURCES = sorted(Path(sklearn_dpvae.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_package_warns_by_one_function(path):
    if path.parts[-2:] == ("_utils", "warn.py"):
        return
    direct = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "warnings.warn"
    ]
    assert not direct, f"{path}:{direct} calls warnings.warn; use _utils.warn.warn"


def places_of(call, match):
    """File and line of each warning of a call that says `match`, with the line of the call."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    return [(w.filename, w.lineno) for w in seen if match in str(w.message)]


@pytest.fixture(scope="module")
def tissue():
    return make_tissue(80, 30, random_state=0)


@pytest.fixture(scope="module")
def logs(tissue):
    counts = tissue.X.toarray()
    return np.log1p(1e3 * counts / counts.sum(axis=1, keepdims=True))


def test_a_step_called_directly(logs):
    normalizer = LogNormalizer()
    seen = places_of(lambda: normalizer.fit(logs), "log-normalized")
    assert seen == [(__file__, inspect.currentframe().f_lineno - 1)]


def test_a_step_in_a_pipeline_in_a_search(logs, tissue):
    model = make_pipeline(LogNormalizer(), LinearRegression())
    seen = places_of(lambda: cross_val_predict(model, logs, tissue.coords, cv=2), "log-normalized")
    assert set(seen) == {(__file__, inspect.currentframe().f_lineno - 1)}


def test_an_estimator_in_our_pipeline(logs, tissue):
    regressor = DPVAESpatialRegressor(max_epochs=1, n_estimators=1, random_state=0)
    model = SpatialPipeline([("log", LogNormalizer()), ("dpvae", clone(regressor))])
    seen = places_of(lambda: model.fit(logs, tissue.coords), "log-normalized")
    assert set(seen) == {(__file__, inspect.currentframe().f_lineno - 1)}


def test_anndata_fit_and_predict(logs, tissue):
    anndata = pytest.importorskip("anndata")
    import sklearn_dpvae.anndata as dpa

    names = {"obs": {"cell": range(80)}}
    adata = anndata.AnnData(logs.astype("float32"), **names)
    adata.var_names, adata.obs_names = tissue.genes, tissue.obs_names
    adata.obsm["spatial"] = tissue.coords
    settings = {"max_epochs": 1, "n_estimators": 1, "n_calibration_folds": None}
    fitted = []
    seen = places_of(lambda: fitted.append(dpa.fit(adata, **settings)), "takes counts")
    assert set(seen) == {(__file__, inspect.currentframe().f_lineno - 1)}

    half = adata[:, adata.var_names[:16]].copy()
    seen = places_of(lambda: dpa.predict(fitted[0], half), "missing in the query")
    assert set(seen) == {(__file__, inspect.currentframe().f_lineno - 1)}
