"""What is said of a query before it is placed, and of cells that are not of the reference."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

import sklearn_dpvae
from sklearn_dpvae import SpatialModel, check_query, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.pipeline._held_out import _told_by
from sklearn_dpvae.pipeline._thinning import thin

TISSUE = make_tissue(700, 100, random_state=0)
GENES = np.array(TISSUE.genes)
LOCATED, QUERY = slice(0, 500), slice(500, 700)


@pytest.fixture(scope="module")
def model():
    pipeline = make_spatial_pipeline(max_epochs=30, n_estimators=2, random_state=0)
    pipeline.fit(TISSUE.X[LOCATED], TISSUE.coords[LOCATED], genes=GENES)
    return SpatialModel.of(pipeline, TISSUE.X[LOCATED], GENES, unit="µm")


def permuted(X, seed=0):
    """Each cell's counts, dealt to other genes."""
    rng = np.random.default_rng(seed)
    return sparse.csr_matrix([row[rng.permutation(len(row))] for row in X.toarray()])


def test_cells_of_the_tissue_have_uniform_p_values_at_most(model):
    p = model.pipeline.predict_membership(TISSUE.X[QUERY])
    assert ((p > 0) & (p <= 1)).all()
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) < level + 2.5 * np.sqrt(level * (1 - level) / 200)


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_cells_that_are_none_of_the_tissue_are_told_apart_at_any_depth(model, share):
    X = thin(TISSUE.X[QUERY], np.full(200, share), np.random.default_rng(0))
    own, other = map(model.pipeline.predict_membership, (X, permuted(X)))
    assert roc_auc_score(np.repeat([0, 1], 200), -np.r_[own, other]) > 0.95
    assert np.mean(own < 0.05) < 0.1


def test_genes_that_reach_the_network_do_not_tell_themselves():
    """A regression of genes on themselves would find every cell like the reference."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 30)) + rng.normal(size=(300, 30))
    slopes, intercept = _told_by(X, X)
    assert np.linalg.matrix_rank(slopes) == 10
    left = X - (X @ slopes + intercept)
    assert np.var(left) > 0.3
    # What they have in common is told all the same.
    assert np.var(left) < 0.5 * np.var(X)
    few = X @ rng.normal(size=(30, 4))
    slopes, intercept = _told_by(few, X)
    np.testing.assert_allclose(
        few @ slopes + intercept, Ridge(alpha=1.0).fit(few, X).predict(few), atol=1e-3
    )


def test_a_pipeline_that_knows_its_genes_is_checked_by_itself(model):
    X = TISSUE.X[QUERY][:, ::-1]
    assert str(check_query(model.pipeline, X, GENES[::-1])) == str(
        check_query(model, X, GENES[::-1])
    )


def test_membership_follows_genes_by_name(model):
    p = model.pipeline.predict_membership(TISSUE.X[QUERY])
    again = model.pipeline.predict_membership(TISSUE.X[QUERY][:, ::-1], genes=GENES[::-1])
    assert_array_equal(p, again)


def test_without_held_out_cells_nothing_is_claimed():
    params = {"max_epochs": 1, "n_estimators": 1, "random_state": 0}
    plain = make_spatial_pipeline(n_calibration_folds=None, **params)
    plain.fit(TISSUE.X[:80], TISSUE.coords[:80])
    with pytest.raises(ValueError, match="no held-out cells"):
        plain.predict_membership(TISSUE.X[QUERY])
    check = check_query(SpatialModel.of(plain, TISSUE.X[:80], GENES), TISSUE.X[QUERY])
    assert np.isnan([check.unlike, check.expected_error, check.depth]).all()
    assert check.to_dict()["expected_error"] is None
    assert "unknown" in str(check)
    genes = make_spatial_pipeline(n_spatial_components=None, n_calibration_folds=2, **params)
    genes.fit(TISSUE.X[:80], TISSUE.coords[:80])
    with pytest.raises(ValueError, match="more than 64 columns"):
        genes.predict_membership(TISSUE.X[QUERY])


def test_held_out_cells_of_a_fit_before_are_forgotten():
    pipeline = make_spatial_pipeline(max_epochs=1, n_estimators=1, random_state=0)
    pipeline.fit(TISSUE.X[:80], TISSUE.coords[:80])
    assert hasattr(pipeline, "held_out_")
    pipeline.set_params(n_calibration_folds=None).fit(TISSUE.X[:80], TISSUE.coords[:80])
    assert not hasattr(pipeline, "held_out_")


def test_a_query_of_the_same_kind_is_trusted(model):
    check = check_query(model, TISSUE.X[QUERY], GENES)
    assert check.trusted
    assert (check.n_cells, check.values, check.expected_values) == (200, "counts", "counts")
    assert (check.n_genes_found, check.weight_missing) == (check.n_genes_used, 0)
    assert check.depth == pytest.approx(check.reference_depth, rel=0.1)
    assert check.query_shift == {"0": 0.0}
    # The expected error is that of the query, whose places are known here.
    error = np.linalg.norm(model.predict(TISSUE.X[QUERY]) - TISSUE.coords[QUERY], axis=1)
    assert check.expected_error == pytest.approx(np.median(error), rel=0.35)
    assert check.guess_error > 2 * check.expected_error


def test_less_depth_and_fewer_genes_raise_the_expected_error(model):
    whole = check_query(model, TISSUE.X[QUERY], GENES)
    thinned = thin(TISSUE.X[QUERY], np.full(200, 0.05), np.random.default_rng(0))
    shallow = check_query(model, thinned, GENES)
    assert shallow.depth == pytest.approx(0.05 * whole.depth, rel=0.2)
    assert shallow.expected_error > 1.3 * whole.expected_error
    with pytest.warns(UserWarning, match="missing in the query"):
        panel = check_query(model, TISSUE.X[QUERY][:, ::4], GENES[::4])
    assert panel.n_genes_found == 25
    assert panel.weight_missing > 0.4
    assert panel.expected_error > 1.1 * whole.expected_error


def test_a_query_that_looks_foreign_and_stays_is_advised_to_move(model):
    found = check_query(model, TISSUE.X[QUERY], GENES)
    assert found.advice == ()
    assert "advice" not in str(found)
    foreign = replace(found, unlike=0.4)
    assert 'query="new_section"' in foreign.advice[0]
    assert foreign.advice[0] in str(foreign)
    assert foreign.to_dict()["advice"] == foreign.advice
    assert foreign.trusted
    assert replace(foreign, query_shift={"0": 0.5}).advice == ()
    assert replace(foreign, query_shift={}).advice == ()


def test_counts_where_other_values_are_expected(model):
    found = check_query(model, TISSUE.X[QUERY], GENES)
    other = replace(found, expected_values="other")
    assert other.warnings == ("the query holds counts where the model expects other values",)
    assert "counts (the model expects other values)" in str(other)
    assert not replace(found, expected_values="unknown").warnings


def test_what_should_not_be_trusted_is_named(model):
    with pytest.warns(UserWarning):
        logged = check_query(model, TISSUE.X[QUERY].log1p(), GENES)
    assert "logarithms" in logged.warnings[0] or "fractions" in logged.warnings[0]
    wrong = check_query(model, permuted(TISSUE.X[QUERY]), GENES)
    assert any("do not resemble the reference" in reason for reason in wrong.warnings)
    assert not wrong.trusted
    assert "do not resemble" in str(wrong).splitlines()[-1]


def test_saved_models_answer_the_same(model, tmp_path):
    sklearn_dpvae.save(model, tmp_path / "model.dpvae")
    loaded = sklearn_dpvae.load(tmp_path / "model.dpvae")
    X = TISSUE.X[QUERY]
    assert_array_equal(
        loaded.pipeline.predict_membership(X, genes=GENES), model.pipeline.predict_membership(X)
    )
    assert check_query(loaded, X, GENES).to_dict() == check_query(model, X, GENES).to_dict()


def test_predict_of_an_anndata_warns_in_one_line(model):
    anndata = pytest.importorskip("anndata")
    import sklearn_dpvae.anndata as dpa

    def query(X):
        adata = anndata.AnnData(X)
        adata.var_names = GENES
        return adata

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dpa.predict(model, query(TISSUE.X[QUERY]))
    with pytest.warns(UserWarning, match=r"should not be trusted: .*resemble the reference"):
        dpa.predict(model, query(permuted(TISSUE.X[QUERY])))
    assert dpa.check(model, query(TISSUE.X[QUERY])).trusted


def test_the_command_prints_a_table_or_json(model, tmp_path, capsys):
    anndata = pytest.importorskip("anndata")
    from sklearn_dpvae.cli import main

    adata = anndata.AnnData(TISSUE.X[QUERY])
    adata.var_names = GENES
    adata.write_h5ad(tmp_path / "query.h5ad")
    sklearn_dpvae.save(model, tmp_path / "model.dpvae")
    arguments = ["check", str(tmp_path / "model.dpvae"), str(tmp_path / "query.h5ad")]
    assert main(arguments) == 0
    assert "nothing speaks against it" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trusted"] is True
    assert found["n_cells"] == 200


def test_predict_of_the_pipeline_warns_of_a_query_not_to_be_trusted(model):
    pipeline = model.pipeline
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.predict(TISSUE.X[QUERY])
        pipeline.predict(permuted(TISSUE.X[QUERY])[:19])  # Too few cells tell nothing.
    with pytest.warns(UserWarning, match=r"not be trusted: .*resemble the reference.*check_query"):
        pipeline.predict(permuted(TISSUE.X[QUERY]).toarray())
    as_lists = pipeline.predict(TISSUE.X[QUERY].toarray().tolist())
    np.testing.assert_allclose(as_lists, pipeline.predict(TISSUE.X[QUERY]), rtol=1e-6)
