"""ProcrustesScorer in scikit-learn's searches, with metadata routing off and on."""

import pickle

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_dpvae.metrics import (
    ProcrustesScorer,
    procrustes_disparity,
    procrustes_distance,
)


class SectionRidge(RegressorMixin, BaseEstimator):
    """A ridge regression of positions that are centered by section."""

    __metadata_request__fit = {"sections": True}  # noqa: RUF012

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def fit(self, X, y, *, sections=None):
        y = np.array(y, dtype=float)
        sections = np.zeros(len(y)) if sections is None else np.asarray(sections)
        self.sections_ = np.unique(sections)
        for label in self.sections_:
            y[sections == label] -= y[sections == label].mean(axis=0)
        self.ridge_ = Ridge(alpha=self.alpha).fit(X, y)
        return self

    def predict(self, X):
        return self.ridge_.predict(X)


@pytest.fixture
def data():
    """Expression that tells the place, in three sections with frames of their own."""
    rng = np.random.default_rng(0)
    places = rng.uniform(size=(90, 2))
    X = places @ rng.normal(size=(2, 10)) + 0.2 * rng.normal(size=(90, 10))
    sections = np.tile(["a", "b", "c"], 30)
    coords = places + 100.0 * (sections == "b")[:, None]
    coords[sections == "c"] *= -30
    return X, coords, sections


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_values(data):
    X, coords, sections = data
    model = SectionRidge().fit(X, coords)
    predicted = model.predict(X)

    assert_allclose(
        ProcrustesScorer()(model, X, coords), 1 - procrustes_disparity(coords, predicted)
    )
    assert_allclose(
        ProcrustesScorer()(model, X, coords, sections=sections),
        1 - procrustes_disparity(coords, predicted, sections=sections),
    )
    assert_allclose(
        ProcrustesScorer("distance")(model, X, coords, sections=sections),
        -procrustes_distance(coords, predicted, sections=sections, normalize=True),
    )


@pytest.mark.parametrize("metric", ["disparity", "distance"])
def test_larger_is_better_and_a_perfect_map_is_best(data, metric):
    X, coords, _ = data
    score = ProcrustesScorer(metric)
    perfect = Ridge(alpha=0).fit(coords, coords)
    good, bad = Ridge().fit(X, coords), Ridge(alpha=1e9).fit(X[::-1], coords)
    assert score(bad, X, coords) < score(good, X, coords) < score(perfect, coords, coords)
    assert score(perfect, coords, coords) == pytest.approx({"disparity": 1, "distance": 0}[metric])


def test_in_searches_and_cross_validation_without_routing(data):
    X, coords, _ = data
    pipeline = make_pipeline(StandardScaler(), SectionRidge())
    search = GridSearchCV(
        pipeline, {"sectionridge__alpha": [0.1, 1e6]}, scoring=ProcrustesScorer(), cv=3
    )
    search.fit(X, coords)
    assert search.best_params_ == {"sectionridge__alpha": 0.1}
    assert search.score(X, coords) == ProcrustesScorer()(search, X, coords)

    scoring = {"map": ProcrustesScorer(), "error": ProcrustesScorer("distance"), "r2": "r2"}
    results = cross_validate(pipeline, X, coords, scoring=scoring, cv=3)
    expected = cross_val_score(pipeline, X, coords, scoring=ProcrustesScorer(), cv=3)
    assert_allclose(results["test_map"], expected)
    assert (results["test_error"] < 0).all()

    multi = GridSearchCV(SectionRidge(), {"alpha": [1.0]}, scoring=scoring, refit="map", cv=3)
    assert multi.fit(X, coords).score(X, coords) == ProcrustesScorer()(multi, X, coords)


@pytest.mark.usefixtures("routing")
def test_labels_are_routed_to_the_scorer(data):
    X, coords, sections = data
    cv = KFold(3, shuffle=True, random_state=0)
    expected = [
        ProcrustesScorer()(
            SectionRidge().fit(X[train], coords[train], sections=sections[train]),
            X[test],
            coords[test],
            sections=sections[test],
        )
        for train, test in cv.split(X)
    ]
    keywords = {"scoring": ProcrustesScorer(), "cv": cv}
    scores = cross_validate(SectionRidge(), X, coords, params={"sections": sections}, **keywords)
    assert_allclose(scores["test_score"], expected)

    search = GridSearchCV(SectionRidge(), {"alpha": [1.0]}, **keywords)
    search.fit(X, coords, sections=sections)
    assert_allclose(search.best_score_, np.mean(expected))
    assert_allclose(
        search.score(X, coords, sections=sections),
        ProcrustesScorer()(search, X, coords, sections=sections),
    )
    scoring = {"map": ProcrustesScorer(), "error": ProcrustesScorer("distance")}
    scores = cross_validate(
        make_pipeline(StandardScaler(), SectionRidge()),
        X,
        coords,
        params={"sections": sections},
        scoring=scoring,
        cv=cv,
    )
    assert np.all(scores["test_map"] > 0.5)


@pytest.mark.usefixtures("routing")
def test_the_request_can_be_changed(data):
    X, coords, sections = data
    renamed = ProcrustesScorer().set_score_request(sections="slide")
    params = {"sections": sections, "slide": np.sort(sections)}
    scores = cross_validate(SectionRidge(), X, coords, params=params, scoring=renamed, cv=3)
    plain = cross_validate(
        SectionRidge(), X, coords, params={"sections": sections}, scoring=ProcrustesScorer(), cv=3
    )
    assert np.all(scores["test_score"] < plain["test_score"])
    assert "slide" in str(clone(renamed, safe=False).get_metadata_routing())

    refused = ProcrustesScorer(sections="single").set_score_request(sections=False)
    cross_validate(SectionRidge(), X, coords, params={"sections": sections}, scoring=refused, cv=3)


@pytest.mark.usefixtures("routing")
def test_no_labels_are_needed_with_routing():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))
    assert (cross_val_score(Ridge(), X, X[:, :2], scoring=ProcrustesScorer(), cv=3) > 0.9).all()


def wrappings(model):
    search = GridSearchCV(model, {}, scoring=ProcrustesScorer())
    search.best_estimator_ = model
    yield model
    yield search
    pipeline = make_pipeline(StandardScaler(), search)
    pipeline.predict = model.predict
    yield pipeline


def test_a_model_of_several_sections_scored_without_labels_warns(data):
    X, coords, sections = data
    model = SectionRidge().fit(X, coords, sections=sections)
    for wrapped in wrappings(model):
        with pytest.warns(UserWarning, match="fitted on 3 sections.*enable_metadata_routing"):
            ProcrustesScorer()(wrapped, X, coords)
        ProcrustesScorer()(wrapped, X, coords, sections=sections)
        ProcrustesScorer(sections="single")(wrapped, X, coords)


def test_left_out_sections_are_single_sections(data):
    X, coords, sections = data
    search = GridSearchCV(
        SectionRidge(),
        {"alpha": [1.0]},
        scoring=ProcrustesScorer(sections="single"),
        cv=LeaveOneGroupOut(),
    )
    search.fit(X, coords, groups=sections, sections=sections)
    assert search.best_score_ > 0.5


@pytest.mark.parametrize("carrier", ["X", "y"])
@pytest.mark.parametrize("form", ["series", "dict"])
def test_labels_by_row_name_need_no_routing(data, carrier, form):
    pd = pytest.importorskip("pandas")
    X, coords, sections = data
    names = [f"cell{i}" for i in range(len(X))]
    series = pd.Series(sections, index=names).sample(frac=1, random_state=0)
    scorer = ProcrustesScorer(sections=series if form == "series" else series.to_dict())
    tables = {"X": pd.DataFrame(X, index=names), "y": pd.DataFrame(coords, index=names)}
    values = {"X": X, "y": coords, carrier: tables[carrier]}

    cv = KFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(
        SectionRidge(), **values, params={"sections": sections}, scoring=scorer, cv=cv
    )
    with sklearn.config_context(enable_metadata_routing=True):
        expected = cross_val_score(
            SectionRidge(),
            X,
            coords,
            params={"sections": sections},
            scoring=ProcrustesScorer(),
            cv=cv,
        )
    assert_allclose(scores, expected)


def test_labels_that_cannot_be_found(data):
    pd = pytest.importorskip("pandas")
    X, coords, sections = data
    model = SectionRidge().fit(X, coords)
    scorer = ProcrustesScorer(sections=pd.Series(sections[:80]))
    with pytest.raises(ValueError, match=r"10 of 90 rows have no label.*first is 80"):
        scorer(model, pd.DataFrame(X), coords)
    with pytest.raises(ValueError, match="neither X nor y is a pandas object"):
        scorer(model, X, coords)


def test_bad_parameters():
    with pytest.raises(ValueError, match=r"metric must be one of .* got 'r2'"):
        ProcrustesScorer("r2")
    with pytest.raises(ValueError, match="sections must be None, 'single', or a mapping"):
        ProcrustesScorer(sections=np.array(["a", "b"]))


def test_repr_pickle_and_clone(data):
    pd = pytest.importorskip("pandas")
    X, coords, _ = data
    assert repr(ProcrustesScorer()) == "ProcrustesScorer()"
    assert repr(ProcrustesScorer("distance")) == "ProcrustesScorer(metric='distance')"
    by_name = ProcrustesScorer(sections=pd.Series(["a", "b"]))
    assert repr(by_name) == "ProcrustesScorer(sections=<2 labels>)"

    model = SectionRidge().fit(X, coords)
    scorer = ProcrustesScorer("distance")
    again = pickle.loads(pickle.dumps(scorer))
    assert again(model, X, coords) == scorer(model, X, coords)
    search = clone(GridSearchCV(Ridge(), {}, scoring=scorer))
    assert search.scoring.metric == "distance"


@pytest.mark.filterwarnings("ignore:.*does not support sample_weight")
def test_sample_weights_beside_it_do_no_harm(data):
    X, coords, _ = data
    scoring = {"map": ProcrustesScorer(), "r2": "r2"}
    search = GridSearchCV(Ridge(), {"alpha": [1.0]}, scoring=scoring, refit="map", cv=3)
    search.fit(X, coords, sample_weight=np.ones(len(X)))
