"""Labels reach the methods that take them: by signature, or by scikit-learn's metadata routing."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_dpvae import DPVAESpatialRegressor, SpatialPipeline, make_spatial_pipeline
from sklearn_dpvae._network.likelihoods import LIKELIHOODS
from sklearn_dpvae._utils.routing import given, sections_for, takes
from sklearn_dpvae.metrics import ProcrustesScorer, procrustes_disparity
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (16,), "max_epochs": 2, "random_state": 0}


def quick(**params):
    return make_spatial_pipeline(n_spatial_components=8, n_top_genes=30, **SMALL | params)


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture
def routing_on():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(params=list(LIKELIHOODS))
def likelihood(request):
    return request.param


@pytest.fixture
def scaled(tissue):
    X = LogNormalizer().fit_transform(tissue.X)
    X = SectionScaler().fit_transform(X, sections=tissue.sections)
    return np.asarray(X), tissue.coords, tissue.sections


# ------------------------------------------------------------------ the question itself


class WithoutBase:
    def predict(self, X, sections=None):
        return X


def test_the_signature_tells_without_routing():
    assert takes(SectionScaler(), "transform", "sections")
    assert takes(SectionScaler(), "fit", "sections")
    assert takes(WithoutBase(), "predict", "sections")
    assert not takes(SectionScaler(), "transform", "batch")
    assert not takes(SectionScaler(), "predict", "sections")
    assert not takes("passthrough", "transform", "sections")
    assert takes(SpatialPipeline([("ridge", Ridge())]), "predict", "sections")
    assert not takes(make_pipeline(SectionScaler(), Ridge()), "predict", "sections")


@pytest.mark.usefixtures("routing_on")
def test_requests_have_a_say_with_routing():
    assert takes(SectionScaler(), "transform", "sections")
    assert takes(SectionScaler(), "transform", "missing_genes")
    assert takes(WithoutBase(), "predict", "sections")
    assert takes(DPVAESpatialRegressor(), "calibrate", "sections")
    assert not takes(DPVAESpatialRegressor(), "transform", "sections")
    renamed = SectionScaler().set_transform_request(sections="slide")
    refused = SectionScaler().set_transform_request(sections=False)
    # The keyword has the same name, whatever the metadata is called.
    assert takes(renamed, "transform", "sections")
    assert not takes(refused, "transform", "sections")
    for pipeline in (
        make_pipeline,
        lambda *steps: SpatialPipeline([*zip("ab", steps, strict=True)]),
    ):
        assert takes(pipeline(SectionScaler(), Ridge()), "predict", "sections")
        assert not takes(pipeline(renamed, Ridge()), "predict", "sections")
        assert takes(pipeline(renamed, Ridge()), "predict", "slide")
        assert not takes(pipeline(refused, Ridge()), "predict", "sections")
        assert not takes(pipeline(StandardScaler(), Ridge()), "predict", "sections")


def test_given_leaves_out_what_is_none_and_what_is_not_taken():
    assert given(SectionScaler(), "transform", sections=[1], missing_genes=None, batch=[2]) == {
        "sections": [1]
    }
    assert sections_for(LogNormalizer(), "transform", [1]) == {}
    assert sections_for(SectionScaler(), "transform", None) == {}


# ------------------------------------------------------------------ requests of the steps


@pytest.mark.usefixtures("routing_on")
def test_labels_under_another_name(tissue, likelihood):
    """Every method answers as with the labels under their own name."""
    X, y, labels = tissue.X, tissue.coords, tissue.sections
    plain, renamed = (quick(likelihood=likelihood, query="new_section") for _ in range(2))
    renamed["genes"].set_fit_request(sections="slide")
    renamed["scale"].set_fit_request(sections="slide").set_transform_request(sections="slide")
    renamed["components"].set_fit_request(sections="slide")
    renamed["dpvae"].set_fit_request(sections="slide", batch="donor")
    renamed["dpvae"].set_predict_request(sections="slide", anchors="known", return_std="spread")
    renamed["dpvae"].set_score_request(sections="slide")
    renamed["dpvae"].set_partial_fit_request(sections="slide", batch="donor")
    renamed["scale"].set_transform_request(sections="slide")

    plain.fit(X, y, sections=labels, batch=labels)
    renamed.fit(X, y, slide=labels, donor=labels)
    assert list(renamed["dpvae"].sections_) == list(np.unique(labels))

    def same(method, *args, options=None, renamed_options=None):
        for found, expected in zip(
            np.atleast_1d(getattr(renamed, method)(*args, slide=labels, **renamed_options or {})),
            np.atleast_1d(getattr(plain, method)(*args, sections=labels, **options or {})),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)

    same("predict", X)
    same("transform", X)
    same("score", X, y)
    same("predict_radius", X)
    known = np.where(np.arange(len(y))[:, None] % 10 == 0, y, np.nan)
    same("predict", X, options={"anchors": known}, renamed_options={"known": known})
    stds = (
        renamed.predict(X, slide=labels, spread=True)[1],
        plain.predict(X, sections=labels, return_std=True)[1],
    )
    np.testing.assert_array_equal(*stds)
    located = np.where(np.arange(len(y))[:, None] % 3 == 0, np.nan, y)
    renamed.calibrate(X, located, slide=labels)
    plain.calibrate(X, located, sections=labels)
    same("predict_radius", X)
    renamed.partial_fit(X, located, slide=labels, donor=labels)
    plain.partial_fit(X, located, sections=labels, batch=labels)
    same("predict", X)
    np.testing.assert_array_equal(
        clone(renamed).fit_transform(X, y, slide=labels),
        clone(plain).fit_transform(X, y, sections=labels),
    )


@pytest.mark.usefixtures("routing_on")
def test_a_step_that_refuses_labels_gets_none(tissue, likelihood):
    pipe = quick(likelihood=likelihood)
    pipe["dpvae"].set_fit_request(sections=False, batch=False, counts=False)
    pipe["dpvae"].set_predict_request(sections=False)
    pipe.fit(tissue.X, tissue.coords, sections=tissue.sections)
    assert len(pipe["scale"].sections_) == 2
    assert list(pipe["dpvae"].sections_) == [0]
    labels = tissue.sections
    inputs = pipe[:-1].transform(tissue.X, sections=labels)
    np.testing.assert_array_equal(
        pipe.predict(tissue.X, sections=labels), pipe["dpvae"].predict(inputs)
    )
    with pytest.raises(TypeError, match="unexpected argument"):
        pipe.fit(tissue.X, tissue.coords, batch=labels)


@pytest.mark.usefixtures("routing_on")
def test_labels_that_no_step_requests_are_an_error(tissue):
    pipe = SpatialPipeline([("scale", StandardScaler()), ("ridge", Ridge())])
    pipe.fit(tissue.X.toarray(), tissue.coords)
    with pytest.raises(TypeError, match=r"predict got unexpected argument.*sections"):
        pipe.predict(tissue.X.toarray(), sections=tissue.sections)


class Validated(DPVAESpatialRegressor):
    """A regressor that is given a validation set."""

    def fit(self, X, y, *, sections=None, batch=None, counts=None, X_val=None):
        self.seen_ = X_val
        return super().fit(X, y, sections=sections, batch=batch, counts=counts)


@pytest.mark.usefixtures("routing_on")
def test_input_that_the_steps_transform(tissue, likelihood):
    final = Validated(**SMALL, likelihood=likelihood).set_fit_request(X_val=True)
    pipe = SpatialPipeline(
        [*quick().steps[:-1], ("dpvae", final)],
        transform_input=["X_val"],
    )
    pipe.fit(tissue.X[:200], tissue.coords[:200], X_val=tissue.X[200:])
    np.testing.assert_array_equal(final.seen_, pipe[:-1].transform(tissue.X[200:]))
    assert pipe["dpvae"] is final


@pytest.mark.usefixtures("routing_on")
def test_counts_that_the_steps_transform(tissue):
    """The caller's counts go through the steps, and so does X where there are none."""
    double = FunctionTransformer(lambda X: 2 * X)
    pipes = [
        SpatialPipeline(
            [("double", double), ("dpvae", DPVAESpatialRegressor(likelihood="nb", **SMALL))],
            transform_input=["counts"],
        )
        for _ in range(2)
    ]
    pipes[0].fit(tissue.X, tissue.coords)
    pipes[1].fit(tissue.X, tissue.coords, counts=tissue.X)
    sizes = np.median(np.asarray(2 * tissue.X.sum(axis=1)))
    assert pipes[0]["dpvae"].library_size_ == sizes == pipes[1]["dpvae"].library_size_


def test_the_pipeline_itself_makes_no_requests():
    """They would have no effect, so the methods that set them are not there."""
    pipe = quick()
    for method in ("fit", "partial_fit", "predict", "transform"):
        assert not hasattr(pipe, f"set_{method}_request")


@pytest.mark.usefixtures("routing_on")
def test_searches_route_through_the_pipeline(tissue):
    pipe = quick()
    pipe["dpvae"].set_score_request(sections="slide").set_fit_request(sections="slide")
    search = GridSearchCV(pipe, {"dpvae__lr": [0.01]}, cv=KFold(2, shuffle=True, random_state=0))
    search.set_params(error_score="raise")
    search.fit(tissue.X, tissue.coords, sections=tissue.sections, slide=tissue.sections)
    assert len(search.best_estimator_["dpvae"].sections_) == 2


# ------------------------------------------------------------------ counts for the last step


def test_the_last_step_explains_the_counts_of_the_selected_genes(tissue, routing, tmp_path):
    X, y = tissue.X, tissue.coords
    # Without calibration, whose folds select genes of their own, and explain the counts of these.
    alone = {"likelihood": "nb", "n_calibration_folds": None}
    found = quick(**alone).fit(X, y)
    counts = X[:, found["genes"].get_support()]
    assert counts.shape[1] == 30
    told = quick(**alone).fit(X, y, counts=counts)
    np.testing.assert_array_equal(found.predict(X), told.predict(X))
    np.testing.assert_array_equal(found.transform(X), quick(**alone).fit_transform(X, y))
    cached = quick(**alone, memory=str(tmp_path)).fit(X, y)
    np.testing.assert_array_equal(found.predict(X), cached.predict(X))
    # Counts of the caller's own are not replaced.
    own = quick(likelihood="nb").fit(X, y, counts=3 * counts)
    assert own["dpvae"].library_size_ == 3 * found["dpvae"].library_size_
    more = quick(likelihood="nb").fit(X, y, counts=X)
    assert more["dpvae"].inverse_transform(np.zeros((1, 2))).shape == (1, 60)


def test_counts_for_a_step_by_name(tissue):
    pipe = quick(likelihood="nb").fit(tissue.X, tissue.coords, dpvae__counts=tissue.X)
    assert pipe["dpvae"].inverse_transform(np.zeros((1, 2))).shape == (1, 60)


def test_a_failed_fit_leaves_the_steps_in_place(tissue, routing):
    pipe = quick(likelihood="nb")
    final = pipe["dpvae"]
    with pytest.raises(ValueError, match="NaN"):
        pipe.fit(tissue.X, np.full_like(tissue.coords, np.nan))
    assert pipe["dpvae"] is final
    assert isinstance(final, BaseEstimator)


# ------------------------------------------------------------------ both ways alike


def test_missing_genes_are_handed_to_the_steps_with_routing_on_and_off(tissue):
    missing = np.arange(60) % 4 == 0
    options = {"sections": tissue.sections, "missing_genes": missing}
    X = tissue.X.toarray() * ~missing
    answers = []
    for on in (False, True):
        with sklearn.config_context(enable_metadata_routing=on):
            pipe = quick(query="new_section").fit(tissue.X, tissue.coords)
            answers.append(
                [
                    pipe.predict(X, **options),
                    pipe.transform(X, **options),
                    pipe.predict_radius(X, **options),
                    pipe.score(X, tissue.coords, **options),
                ]
            )
            # Without the mask, zeros are taken for what the cells express.
            with pytest.warns(UserWarning, match="do not resemble the reference"):
                unmasked = pipe.predict(X, sections=tissue.sections)
            assert not np.array_equal(unmasked, answers[-1][0])
    for off, on in zip(*answers, strict=True):
        np.testing.assert_array_equal(off, on)


def test_pipelines_that_end_without_an_estimator(tissue, routing):
    labels = tissue.sections
    steps = [("normalize", LogNormalizer()), ("scale", SectionScaler(query="new_section"))]
    pipe = SpatialPipeline([*steps, ("last", "passthrough")])
    found = pipe.fit_transform(tissue.X, sections=labels)
    np.testing.assert_array_equal(found, pipe.transform(tissue.X, sections=labels))
    assert not np.array_equal(found, pipe.transform(tissue.X, sections=np.roll(labels, 75)))
    assert not hasattr(pipe, "predict")
    assert not hasattr(SpatialPipeline([("ridge", Ridge())]), "transform")
    assert not hasattr(SpatialPipeline([("ridge", Ridge())]), "fit_transform")
    assert not hasattr(SpatialPipeline([("ridge", Ridge())]), "partial_fit")


def test_default_scores_in_plain_pipelines_and_searches(scaled, routing):
    X, coords, sections = scaled
    pipe = make_pipeline(StandardScaler(), DPVAESpatialRegressor(**SMALL))
    pipe.fit(X, coords)
    expected = 1 - procrustes_disparity(coords, pipe.predict(X))
    assert pipe.score(X, coords) == expected
    params = {"sections": sections} if routing else {"dpvaespatialregressor__sections": sections}
    scores = cross_val_score(pipe, X, coords, params=params, cv=2, error_score="raise")
    folds = KFold(2).split(X)
    for score, (train, test) in zip(scores, folds, strict=True):
        told = {key: values[train] for key, values in params.items()}
        model = clone(pipe).fit(X[train], coords[train], **told)
        of_rows = {"sections": sections[test]} if routing else {}
        assert score == model.score(X[test], coords[test], **of_rows)
    search = GridSearchCV(pipe, {"dpvaespatialregressor__lr": [0.01]}, cv=2, error_score="raise")
    assert np.isfinite(search.fit(X, coords, **params).best_score_)


def test_weights_in_scores_are_repeated_rows(tissue, scaled, routing):
    times = np.random.default_rng(0).integers(0, 4, size=300)
    rows = np.repeat(np.arange(300), times)
    X, coords, sections = scaled
    model = DPVAESpatialRegressor(**SMALL).fit(X, coords)
    for labels, repeated in ((None, None), (sections, sections[rows])):
        weighted = model.score(X, coords, times, labels)
        expected = model.score(X[rows], coords[rows], sections=repeated)
        assert weighted == pytest.approx(expected, abs=1e-12)
        assert weighted != model.score(X, coords, sections=labels)
    pipe = quick().fit(tissue.X, tissue.coords)
    if routing:
        pipe["dpvae"].set_score_request(sample_weight=True)
    options = {"sections": sections, "sample_weight": times}
    expected = pipe.score(tissue.X[rows], coords[rows], sections=sections[rows])
    assert pipe.score(tissue.X, coords, **options) == pytest.approx(expected, abs=1e-9)
    none_missing = {"missing_genes": np.zeros(60, dtype=bool)}
    assert pipe.score(tissue.X, coords, **options, **none_missing) == pytest.approx(
        expected, abs=1e-6
    )


# ------------------------------------------------------------------ the scorer


def test_the_scorer_hands_its_labels_to_the_prediction(tissue, routing):
    """It scores a pipeline as the pipeline does itself."""
    X, y, labels = tissue.X, tissue.coords, tissue.sections
    pipe = quick(query="new_section").fit(X, y, sections=labels)
    scorer = ProcrustesScorer()
    expected = 1 - procrustes_disparity(y, pipe.predict(X, sections=labels), sections=labels)
    assert scorer(pipe, X, y, sections=labels) == expected
    assert expected != 1 - procrustes_disparity(y, pipe.predict(X), sections=labels)
    search = GridSearchCV(pipe, {}, cv=2).fit(X, y, sections=labels)
    assert scorer(search, X, y, sections=labels) == scorer(
        search.best_estimator_, X, y, sections=labels
    )


def test_the_scorer_leaves_labels_from_those_that_take_none(tissue, routing):
    X, y, labels = tissue.X.toarray(), tissue.coords, tissue.sections
    model = make_pipeline(StandardScaler(), Ridge()).fit(X, y)
    expected = 1 - procrustes_disparity(y, model.predict(X), sections=labels)
    assert ProcrustesScorer()(model, X, y, sections=labels) == expected


# ------------------------------------------------------------------ masks


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_parameters_of_masks_are_searched(tissue, routing, n_jobs):
    from sklearn_dpvae.masks import KNNMask

    search = GridSearchCV(
        quick(mask=KNNMask(n_scales=1)),
        {"dpvae__mask__n_neighbors": [2, 40]},
        cv=2,
        n_jobs=n_jobs,
        error_score="raise",
    )
    search.fit(tissue.X, tissue.coords)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    best = search.best_estimator_["dpvae"].mask
    assert best.n_neighbors == search.best_params_["dpvae__mask__n_neighbors"]
    assert cross_validate(search.best_estimator_, tissue.X, tissue.coords, cv=2)
