"""The recommended chain: section labels reach every step, with metadata routing on and off."""

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    cross_validate,
)
from sklearn.utils import estimator_html_repr

from sklearn_dpvae import make_paper_pipeline, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import ProcrustesScorer, procrustes_disparity


def quick(**params):
    return make_spatial_pipeline(
        **{
            "n_estimators": 2,
            "hidden_layer_sizes": (16,),
            "max_epochs": 5,
            "random_state": 0,
            "n_spatial_components": 8,
            "n_calibration_folds": None,
        }
        | params
    )


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


def test_labels_reach_every_step(tissue, routing):
    pipe = quick().fit(tissue.X, tissue.coords, sections=tissue.sections)
    assert len(pipe["scale"].sections_) == 2
    assert len(pipe["dpvae"].sections_) == 2
    # Moving one section's frame moves its answers and nothing else.
    moved = tissue.coords + np.where(tissue.sections == tissue.sections[0], 1e4, 0)[:, None]
    other = quick().fit(tissue.X, moved, sections=tissue.sections)
    np.testing.assert_array_equal(pipe["genes"].get_support(), other["genes"].get_support())
    np.testing.assert_allclose(
        pipe.predict(tissue.X, sections=tissue.sections) + moved - tissue.coords,
        other.predict(tissue.X, sections=tissue.sections),
        rtol=1e-2,
        atol=1.0,
    )


def test_every_method_takes_labels(tissue, routing):
    pipe = quick().fit(tissue.X, tissue.coords, sections=tissue.sections)
    labels = tissue.sections
    predicted, std = pipe.predict(tissue.X, sections=labels, return_std=True)
    assert predicted.shape == tissue.coords.shape
    assert std.shape == labels.shape
    assert pipe.transform(tissue.X, sections=labels).shape == (300, 2)
    score = pipe.score(tissue.X, tissue.coords, sections=labels)
    expected = procrustes_disparity(tissue.coords, pipe.predict(tissue.X), sections=labels)
    assert score == pytest.approx(1 - expected, abs=0.05)
    assert quick().fit_transform(tissue.X, tissue.coords, sections=labels).shape == (300, 2)


def test_grid_search_with_sections(tissue, routing):
    search = GridSearchCV(
        quick(max_epochs=2),
        {"dpvae__distance_weight": [0.1, 1.0], "genes__n_top_genes": [20]},
        scoring=ProcrustesScorer(sections=None if routing else "single"),
        cv=LeaveOneGroupOut(),
        error_score="raise",
    )
    search.fit(tissue.X, tissue.coords, groups=tissue.sections, sections=tissue.sections)
    assert set(search.best_params_) == {"dpvae__distance_weight", "genes__n_top_genes"}
    assert len(search.best_estimator_["dpvae"].sections_) == 2
    assert search.predict(tissue.X).shape == tissue.coords.shape


def test_cross_validate_with_sections(tissue, routing):
    done = cross_validate(
        quick(max_epochs=2),
        tissue.X,
        tissue.coords,
        cv=KFold(2, shuffle=True, random_state=0),
        params={"sections": tissue.sections},
        scoring={
            "disparity": ProcrustesScorer(sections=None if routing else "single"),
            "distance": ProcrustesScorer(
                metric="distance", sections=None if routing else "single"
            ),
        },
        error_score="raise",
    )
    assert np.isfinite(done["test_disparity"]).all()
    assert (done["test_distance"] <= 0).all()


def test_groups_are_left_to_the_splitter(tissue):
    groups = np.arange(300) % 3
    done = cross_validate(
        quick(max_epochs=2),
        tissue.X,
        tissue.coords,
        groups=groups,
        cv=GroupKFold(3),
        params={"sections": tissue.sections},
        scoring=ProcrustesScorer(sections="single"),
    )
    assert len(done["test_score"]) == 3


def test_query_statistics_undo_a_shift_of_the_query(tissue):
    """A new section whose genes are all measured twice as well must land in the same place."""
    reference = tissue.sections == tissue.sections[0]
    X, coords = tissue.X[reference], tissue.coords[reference]
    boost = 1 + 3 * np.random.default_rng(0).random(X.shape[1])
    shifted = X.multiply(boost).tocsr()
    own = quick(query="new_section", max_epochs=60).fit(X, coords)
    fitted = quick(query="same_section", max_epochs=60).fit(X, coords)
    assert procrustes_disparity(own.predict(X), own.predict(shifted)) < procrustes_disparity(
        fitted.predict(X), fitted.predict(shifted)
    )


def test_same_section_queries_are_answered_row_by_row(tissue):
    pipe = quick().fit(tissue.X, tissue.coords)
    whole = pipe.predict(tissue.X)
    np.testing.assert_allclose(pipe.predict(tissue.X[:3]), whole[:3], rtol=1e-6)


def test_fine_tuning_keeps_the_genes(tissue):
    reference = tissue.sections == tissue.sections[0]
    pipe = quick(query="new_section").fit(tissue.X[reference], tissue.coords[reference])
    genes = pipe["genes"].get_support().copy()
    few = np.flatnonzero(~reference)[:30]
    assert pipe.partial_fit(tissue.X[few], tissue.coords[few], sections=["new"] * 30) is pipe
    np.testing.assert_array_equal(pipe["genes"].get_support(), genes)
    assert list(pipe["dpvae"].sections_) == ["new"]


def test_persisted_models_and_clones(tissue, tmp_path):
    pipe = quick().fit(tissue.X, tissue.coords)
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(
        joblib.load(tmp_path / "pipe.joblib").predict(tissue.X), pipe.predict(tissue.X)
    )
    again = clone(pipe).fit(tissue.X, tissue.coords)
    np.testing.assert_array_equal(again.predict(tissue.X), pipe.predict(tissue.X))
    assert "SpatialPCA" in estimator_html_repr(pipe)


def test_memory_caches_the_steps_before_the_net(tissue, tmp_path):
    pipe = quick(memory=str(tmp_path / "cache")).fit(tissue.X, tissue.coords)
    plain = quick().fit(tissue.X, tissue.coords)
    np.testing.assert_array_equal(pipe.predict(tissue.X), plain.predict(tissue.X))


def test_the_papers_recipe_is_eq_4_on_all_cells(tissue):
    pipe = make_paper_pipeline(distance_weight=30.0, max_epochs=3, random_state=0)
    pipe.fit(tissue.X, tissue.coords)
    module = pipe["dpvae"].module_
    assert module.n_members == 1
    assert "Dropout" not in repr(module) and "Norm" not in repr(module)
    for epoch in pipe["dpvae"].history_:
        # alpha = beta = 1, the ELBO summed over genes, and nothing but eq. (4).
        expected = epoch["reconstruction"] + epoch["kl"] + 30.0 * epoch["distance"]
        assert epoch["loss"] == pytest.approx(expected, rel=1e-5)
    # One step an epoch, of Adam: a weight moves by about the learning rate in a step.
    begun = make_paper_pipeline(distance_weight=30.0, max_epochs=1, lr=1e-12, random_state=0)
    begun.fit(tissue.X, tissue.coords)
    start = begun["dpvae"].module_.state_dict()["decoder.0.weight"]
    moved = (module.state_dict()["decoder.0.weight"] - start).abs().max()
    assert 1e-3 < moved < 3.5e-3


def test_the_papers_recipe_chooses_genes_without_positions(tissue):
    kept = [
        make_paper_pipeline(n_top_genes=12, max_epochs=1, random_state=0)
        .fit(tissue.X, coords)["genes"]
        .get_support()
        for coords in (tissue.coords, np.roll(tissue.coords, 7, axis=0))
    ]
    assert kept[0].sum() == 12
    np.testing.assert_array_equal(*kept)


def test_more_lambda_fits_distances_better(tissue):
    plain, preserving = (
        make_paper_pipeline(distance_weight=weight, max_epochs=60, random_state=0)
        .fit(tissue.X, tissue.coords)
        .score(tissue.X, tissue.coords)
        for weight in (0.0, 1000.0)
    )
    assert preserving > plain + 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: -X, "negative|Negative"),
        (lambda X: X * np.nan, "NaN"),
        (lambda X: X[:, :10], "features"),
    ],
)
def test_bad_queries_are_named(tissue, change, message):
    pipe = quick().fit(tissue.X, tissue.coords)
    with pytest.raises(ValueError, match=message):
        pipe.predict(change(tissue.X.astype(float)))


# ----------------------------------------------------------------------- missing genes


def test_missing_genes_count_as_the_mean_and_not_as_silent():
    tissue = make_tissue(700, 100, random_state=0)
    X = tissue.X.toarray()
    pipe = quick(n_spatial_components=20, max_epochs=60).fit(X[:500], tissue.coords[:500])
    missing = np.random.default_rng(0).permutation(100) < 30
    query, truth = np.where(missing, 0, X[500:]), tissue.coords[500:]

    def error(positions):
        return np.sqrt(np.mean((positions - truth) ** 2))

    all_known = error(pipe.predict(X[500:]))
    known = error(pipe.predict(query, missing_genes=missing))
    assert all_known < known < error(pipe.predict(query)) - (known - all_known)


@pytest.mark.filterwarnings("ignore:.*of the weight, are missing")
@pytest.mark.filterwarnings("ignore:steps before the last were chosen")
def test_missing_genes_follow_the_selection(tissue):
    """As if each step were told by hand."""
    pipe = quick().fit(tissue.X, tissue.coords, sections=tissue.sections)
    missing = np.random.default_rng(0).permutation(tissue.X.shape[1]) < 20
    X = tissue.X.toarray() * ~missing
    Z = pipe["normalize"].transform(X, missing_genes=missing)
    Z = pipe["genes"].transform(Z)
    kept = missing[pipe["genes"].get_support()]
    Z = pipe["scale"].transform(Z, sections=tissue.sections, missing_genes=kept)
    assert (Z[:, kept] == 0).all()
    expected = pipe["dpvae"].predict(pipe["components"].transform(Z), sections=tissue.sections)
    found = pipe.predict(X, sections=tissue.sections, missing_genes=missing)
    np.testing.assert_array_equal(found, expected)
    told = {"sections": tissue.sections, "missing_genes": missing}
    components = pipe["components"].transform(Z)
    np.testing.assert_array_equal(pipe.transform(X, **told), pipe["dpvae"].transform(components))
    np.testing.assert_array_equal(
        pipe.predict_radius(X, **told), pipe["dpvae"].predict_radius(components)
    )
    score = pipe["dpvae"].score(components, tissue.coords, sections=tissue.sections)
    assert pipe.score(X, tissue.coords, **told) == score


def test_missing_genes_of_fitted_data_frames(tissue):
    frame = pytest.importorskip("pandas").DataFrame(tissue.X.toarray())
    frame.columns = frame.columns.astype(str)
    missing = np.arange(frame.shape[1]) == 3
    arrays = quick().fit(frame, tissue.coords).predict(frame, missing_genes=missing)
    frames = quick().set_output(transform="pandas").fit(frame, tissue.coords)
    np.testing.assert_allclose(frames.predict(frame, missing_genes=missing), arrays, rtol=1e-5)
    np.testing.assert_array_equal(
        frames.predict(frame), frames.predict(frame, missing_genes=np.zeros_like(missing))
    )


@pytest.mark.parametrize("missing", [[0, 3], [True], np.zeros(60)])
def test_missing_genes_must_be_booleans_one_a_gene(tissue, missing):
    pipe = quick(max_epochs=1).fit(tissue.X, tissue.coords)
    with pytest.raises(ValueError, match=r"missing_genes must hold True or False.*~np\.isin"):
        pipe.predict(tissue.X, missing_genes=missing)


# --------------------------------------------------------------- cells that are not located


@pytest.mark.parametrize("method", ["partial_fit", "calibrate"])
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_unlocated_cells_count_in_the_scaling_and_in_nothing_else(tissue, method, likelihood):
    """As if the last step alone were given the located rows of the scaled section."""
    first, second = (tissue.sections == label for label in np.unique(tissue.sections))
    located = np.flatnonzero(tissue.coords[second, 0] < np.median(tissue.coords[second, 0]))
    known = np.full_like(tissue.coords[second], np.nan)
    known[located] = tissue.coords[second][located]
    X = tissue.X[second]

    def fitted():
        pipe = quick(query="new_section", likelihood=likelihood)
        return pipe.fit(tissue.X[first], tissue.coords[first])

    pipe, by_hand = fitted(), fitted()
    assert getattr(pipe, method)(X, known) is pipe
    scaled = by_hand[:-1].transform(X)[located]
    more = {}
    if method == "partial_fit" and likelihood == "nb":
        more["counts"] = X[:, by_hand["genes"].get_support()][located]
    getattr(by_hand[-1], method)(scaled, known[located], **more)
    for got, expected in zip(
        pipe.predict(X, return_std=True), by_hand.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    # Scaled by themselves, the located ones are others.
    other = getattr(fitted(), method)(X[located], known[located])
    assert not np.allclose(other.predict(X, return_std=True)[1], expected)


def test_labels_of_unlocated_cells(tissue):
    known = np.where(np.arange(len(tissue.coords))[:, None] % 3 == 0, np.nan, tissue.coords)
    pipe = quick().fit(tissue.X, tissue.coords, sections=tissue.sections)
    pipe.partial_fit(tissue.X, known, sections=tissue.sections, batch=None)
    assert len(pipe["dpvae"].sections_) == 2


def test_positions_known_in_part_or_not_at_all(tissue):
    pipe = quick(max_epochs=1).fit(tissue.X, tissue.coords)
    known = tissue.coords.copy()
    known[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 7 of y is \[[\d.]+, nan\]: known in part"):
        pipe.partial_fit(tissue.X, known)
    with pytest.raises(ValueError, match="no located cell"):
        pipe.calibrate(tissue.X, np.full_like(known, np.nan))
    known[7] = np.nan
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        pipe.partial_fit(tissue.X[:-1], known)
    with pytest.raises(ValueError, match="NaN"):
        pipe.fit(tissue.X, known)


@pytest.mark.parametrize("kind", ["coo", "dask"])
def test_formats_without_rows(tissue, kind):
    small = {"n_estimators": 1, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
    expected = make_spatial_pipeline(**small).fit(tissue.X, tissue.coords).predict(tissue.X)
    if kind == "dask":
        X = pytest.importorskip("dask.array").from_array(tissue.X.toarray(), chunks=(100, 60))
    else:
        X = tissue.X.asformat(kind)
    found = make_spatial_pipeline(**small).fit(X, tissue.coords).predict(X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=0.1)


def test_a_model_of_one_gene_answers():
    tissue = make_tissue(200, 30, random_state=0)
    pipe = make_spatial_pipeline(n_top_genes=1, n_estimators=2, max_epochs=3, random_state=0)
    pipe.fit(tissue.X[:150], tissue.coords[:150])
    assert np.isfinite(pipe.predict(tissue.X[150:])).all()
