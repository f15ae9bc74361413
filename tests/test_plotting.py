"""Displays: the artists in a figure hold the numbers that they should show."""

import sys
from copy import deepcopy

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.path import Path  # noqa: E402

from sklearn_dpvae import make_spatial_pipeline  # noqa: E402
from sklearn_dpvae import plotting as displays  # noqa: E402
from sklearn_dpvae.inspection import marker_genes  # noqa: E402
from sklearn_dpvae.metrics import distortion_bounds, procrustes_disparity  # noqa: E402
from sklearn_dpvae.places import PlaceDistribution  # noqa: E402
from sklearn_dpvae.plotting._common import PALETTE, position_colors  # noqa: E402

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def _model(_tissue):
    pipeline = make_spatial_pipeline(**SMALL)
    return pipeline.fit(_tissue.X, _tissue.coords, sections=_tissue.sections)


@pytest.fixture
def model(_model):
    return deepcopy(_model)


def drawn(ax):
    """Return the positions of all points of the scatter collections in axes."""
    return np.vstack([c.get_offsets() for c in ax.collections if hasattr(c, "get_sizes")])


def test_reconstruction_draws_both_maps_in_the_same_colors(tissue, model):
    one = tissue.sections == tissue.sections[0]
    X, y = tissue.X[one], tissue.coords[one]
    display = displays.ReconstructionDisplay.from_estimator(model, X, y, align=False)
    true, pred = display.ax_
    np.testing.assert_array_equal(drawn(true), y)
    np.testing.assert_allclose(drawn(pred), model.predict(X))
    np.testing.assert_array_equal(
        true.collections[0].get_facecolor(), pred.collections[0].get_facecolor()
    )
    assert true.get_title() == "true"
    assert true.get_aspect() == pred.get_aspect() == 1
    assert display.figure_ is true.figure


def test_reconstruction_marks_the_same_cells(tissue):
    y = tissue.coords[:150]
    marked = [3, 50, 120]
    display = displays.ReconstructionDisplay.from_predictions(y, 2 * y, marked=marked, align=False)
    for ax, points in zip(display.ax_, (y, 2 * y), strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_xydata()[:3], points[marked])
        np.testing.assert_array_equal(ax.lines[0].get_xydata()[3], points[marked[0]])
    chosen = displays.ReconstructionDisplay.from_predictions(y, y).ax_[0].lines[0].get_xydata()
    sides = np.linalg.norm(np.diff(chosen, axis=0), axis=1)
    assert sides.min() > 0.4 * np.ptp(y, axis=0).min()


def test_reconstruction_aligns_each_section_by_itself(tissue):
    rotation = np.array([[0.0, -3.0], [3.0, 0.0]])
    pred = tissue.coords @ rotation
    second = tissue.sections == tissue.sections[-1]
    pred[second] = -tissue.coords[second] + 5
    display = displays.ReconstructionDisplay.from_predictions(
        tissue.coords, pred, sections=tissue.sections
    )
    assert len(display.ax_) == 4
    np.testing.assert_allclose(display.y_pred, tissue.coords, atol=1e-8)
    np.testing.assert_array_equal(drawn(display.ax_[2]), tissue.coords[second])
    assert str(tissue.sections[-1]) in display.ax_[3].get_title()


def test_colors_by_number_label_and_position(tissue):
    y = tissue.coords
    show = displays.ReconstructionDisplay.from_predictions
    by_number = show(y, y, color=y[:, 0])
    np.testing.assert_array_equal(by_number.ax_[1].collections[0].get_array(), y[:, 0])
    by_label = show(y, y, color=tissue.cell_types)
    labels = sorted(set(tissue.cell_types))
    texts = [text.get_text() for text in by_label.ax_[1].get_legend().get_texts()]
    assert texts == labels
    shades = [to_hex(c.get_facecolor()[0]).upper() for c in by_label.ax_[0].collections]
    assert shades == [shade.upper() for shade in PALETTE[: len(labels)]]
    rgb = position_colors(y)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    # Neighbors look alike, and luminance rises upward.
    assert np.corrcoef(rgb @ [0.299, 0.587, 0.114], y[:, 1])[0, 1] > 0.8


def test_error_map_holds_the_errors(tissue, model):
    display = displays.ErrorMapDisplay.from_estimator(
        model, tissue.X, tissue.coords, sections=tissue.sections
    )
    pred = model.predict(tissue.X, sections=tissue.sections)
    errors = np.linalg.norm(pred - tissue.coords, axis=1)
    np.testing.assert_allclose(display.errors, errors)
    points = display.ax_.collections[0]
    np.testing.assert_allclose(points.get_array(), np.sort(errors))
    np.testing.assert_array_equal(points.get_offsets(), tissue.coords[np.argsort(errors)])
    assert points.get_clim()[0] == 0
    assert "tissue units" in display.colorbar_.ax.get_ylabel()
    flat = displays.ErrorMapDisplay.from_predictions(
        tissue.coords, -3 * tissue.coords, sections=tissue.sections, align=True
    )
    np.testing.assert_allclose(flat.errors, 0, atol=1e-8)


@pytest.mark.parametrize("shape", [(40,), (40, 2)])
def test_uncertainty_draws_ellipses_of_the_size_of_the_standard_deviations(shape):
    rng = np.random.default_rng(0)
    pred, std = rng.uniform(0, 100, size=(40, 2)), rng.uniform(1, 9, size=shape)
    display = displays.UncertaintyDisplay.from_predictions(pred, std, pred + 1, max_cells=None)
    half = std if std.ndim == 2 else np.column_stack([std, std])
    np.testing.assert_array_equal(display.ellipses_.get_offsets(), pred)
    np.testing.assert_allclose(display.ellipses_.get_array(), half.mean(axis=1))
    if hasattr(display.ellipses_, "get_widths"):
        np.testing.assert_allclose(display.ellipses_.get_widths(), 2 * half[:, 0])
        np.testing.assert_allclose(display.ellipses_.get_heights(), 2 * half[:, 1])
    low, high = display.ax_.get_xlim()
    assert low <= (pred - half)[:, 0].min()
    assert high >= (pred + half)[:, 0].max()
    assert len(display.ax_.get_legend().get_texts()) == 2
    few = displays.UncertaintyDisplay.from_predictions(pred, std, max_cells=7)
    assert len(few.ellipses_.get_offsets()) == 7
    with pytest.raises(ValueError, match="std has shape"):
        displays.UncertaintyDisplay.from_predictions(pred, std[:3])


def test_uncertainty_asks_the_estimator_for_standard_deviations(tissue):
    class Estimator:
        def predict(self, X, *, return_std):
            assert return_std
            return tissue.coords, np.ones(300)

    display = displays.UncertaintyDisplay.from_estimator(Estimator(), tissue.X, max_cells=5)
    np.testing.assert_array_equal(display.std, 1)


def test_places_are_shaded_and_outlined():
    grid = np.stack(np.meshgrid(range(12), range(8)), axis=-1).reshape(-1, 2)
    heaps = [np.exp(-0.5 * ((grid - at) ** 2).sum(axis=1)) for at in ([2.23, 3.11], [9.31, 4.2])]
    p = np.stack([sum(heaps) / np.sum(heaps), heaps[0] / heaps[0].sum()])
    places = PlaceDistribution(p, grid)
    display = displays.PlacesDisplay.from_predictions(
        places, y_pred=places.mean(), y_true=[[2, 3], [2, 3]], level=0.6
    )
    assert len(display.ax_) == 2
    for k, n_patches in enumerate([2, 1]):
        np.testing.assert_allclose(display.shades_[k].get_array(), p[k])
        (outline,) = display.outlines_[k].get_paths()
        parts = outline.to_polygons(closed_only=False)
        assert len(parts) == n_patches
        # What is outlined is the region.
        inside = np.any([Path(part).contains_points(grid) for part in parts], axis=0)
        np.testing.assert_array_equal(inside, places.region(0.6)[k].toarray().ravel())
    assert len(display.ax_[0].get_legend().get_texts()) == 2
    one = displays.PlacesDisplay.from_predictions(places, cells=[1])
    assert len(one.ax_) == 1
    assert one.ax_[0].get_legend() is None
    with pytest.raises(ValueError, match="places has 2, y_true has 3"):
        displays.PlacesDisplay.from_predictions(places, y_true=np.zeros((3, 2)))


def test_loss_curves_are_the_history(tissue, model):
    other = make_spatial_pipeline(distance_weight=10.0, **SMALL).fit(tissue.X, tissue.coords)
    display = displays.LossCurvesDisplay.from_estimator({10.0: other, 1: model}, label="lambda")
    history = model[-1].history_
    for term in ("loss", "reconstruction", "kl", "distance"):
        line = display.lines_[term][1]
        np.testing.assert_array_equal(line.get_ydata(), [row[term] for row in history])
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    legend = display.ax_[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["10", "1"]
    assert legend.get_title().get_text() == "lambda"
    # Larger values are lighter, in whichever order they come.
    light = [sum(line.get_color()[:3]) for line in display.lines_["loss"]]
    assert light[0] > light[1]
    single = displays.LossCurvesDisplay.from_estimator(model[-1], terms=["kl"])
    assert single.ax_.shape == (1,)
    assert single.ax_[0].get_title() == "kl"
    with pytest.raises(ValueError, match=r"terms=\['nothing'\] asks for columns .* loss, recon"):
        displays.LossCurvesDisplay.from_estimator(model, terms=["nothing"])
    with pytest.raises(TypeError, match="KNeighborsRegressor has no history_"):
        displays.LossCurvesDisplay.from_estimator(KNeighborsRegressor())


def test_weight_curve_of_a_search_and_of_an_estimator(tissue):
    X, y = tissue.X[:150], tissue.coords[:150]
    grid = {"dpvae__distance_weight": [1.0, 0.1]}
    search = GridSearchCV(make_spatial_pipeline(**SMALL), grid, cv=2).fit(X, y)
    display = displays.WeightCurveDisplay.from_cv_results(search.cv_results_)
    expected = 1 - search.cv_results_["mean_test_score"][::-1]
    np.testing.assert_array_equal(display.line_.get_xdata(), [0.1, 1.0])
    np.testing.assert_allclose(display.line_.get_ydata(), expected)
    assert display.best_weight_ == search.best_params_["dpvae__distance_weight"]
    assert display.ax_.get_xscale() == "log"
    again = displays.WeightCurveDisplay.from_estimator(
        make_spatial_pipeline(**SMALL), X, y, param_range=[0.1, 1.0], cv=2
    )
    np.testing.assert_allclose(again.line_.get_ydata(), expected)
    with pytest.raises(ValueError, match=r"'lr' was not varied .*: dpvae__distance_weight\."):
        displays.WeightCurveDisplay.from_cv_results(search.cv_results_, param_name="lr")
    zero = displays.WeightCurveDisplay([0, 1, 10], np.ones((3, 2))).plot()
    assert zero.ax_.get_xscale() == "symlog"


def test_transfer_matrix_is_that_of_clones(tissue):
    model = KNeighborsRegressor(3)
    X, sections = np.log1p(tissue.X.toarray()), tissue.sections
    display = displays.TransferMatrixDisplay.from_estimator(
        model, X, tissue.coords, sections=sections
    )
    first, second = (sections == label for label in np.unique(sections))
    pred = KNeighborsRegressor(3).fit(X[first], tissue.coords[first]).predict(X[second])
    assert display.errors[0, 1] == procrustes_disparity(tissue.coords[second], pred)
    assert np.isnan(np.diag(display.errors)).all()
    assert [text.get_text() for text in display.ax_.texts] == [
        f"{value:.2f}" for value in display.errors[[0, 1], [1, 0]]
    ]
    np.testing.assert_array_equal(display.image_.get_array(), np.ma.masked_invalid(display.errors))
    with pytest.raises(ValueError, match="errors has shape"):
        displays.TransferMatrixDisplay(np.zeros((2, 2)), ["a", "b", "c"]).plot()
    wide = displays.TransferMatrixDisplay([[0.1, 0.2]], ["a"], query_labels=["b", "c"]).plot()
    assert [tick.get_text() for tick in wide.ax_.get_xticklabels()] == ["b", "c"]
    assert [tick.get_text() for tick in wide.ax_.get_yticklabels()] == ["a"]


def test_gene_maps_hold_log_counts_of_the_marker_genes(tissue, model):
    display = displays.GeneMapDisplay.from_estimator(
        model, tissue.X, tissue.coords, genes=tissue.genes, n=3, sections=tissue.sections
    )
    chosen = marker_genes(model, tissue.X, 3, genes=tissue.genes, sections=tissue.sections)
    assert [ax.get_title() for ax in display.ax_] == chosen.tolist()
    column = tissue.genes.tolist().index(chosen[1])
    expected = np.log1p(tissue.X[:, [column]].toarray().ravel())
    values = np.asarray(display.ax_[1].collections[0].get_array())
    np.testing.assert_allclose(values, np.sort(expected))
    with pytest.raises(ValueError, match=r"not in genes: \['Xist'\]"):
        displays.GeneMapDisplay.from_predictions(
            tissue.coords, tissue.X, tissue.genes, show=["Xist"]
        )
    with pytest.raises(ValueError, match="show is empty"):
        displays.GeneMapDisplay.from_predictions(tissue.coords, tissue.X, tissue.genes, show=[])


def test_latents_are_drawn_with_equal_scales(tissue, model):
    display = displays.LatentDisplay.from_estimator(
        model, tissue.X, color=tissue.cell_types, label="type", sections=tissue.sections
    )
    latents = model.transform(tissue.X, sections=tissue.sections)
    np.testing.assert_allclose(np.sort(drawn(display.ax_), axis=0), np.sort(latents, axis=0))
    assert display.ax_.get_aspect() == 1
    assert display.ax_.get_legend().get_title().get_text() == "type"
    plain = displays.LatentDisplay.from_predictions(latents)
    np.testing.assert_allclose(drawn(plain.ax_), latents)
    with pytest.raises(ValueError, match="components"):
        displays.LatentDisplay.from_predictions(latents, components=(0, 2))


def test_distances_and_the_band_of_the_theorem(tissue, model):
    display = displays.DistanceDisplay.from_estimator(
        model, tissue.X, tissue.coords, sections=tissue.sections, delta=0.2
    )
    latents = model.transform(tissue.X, sections=tissue.sections)
    bounds = distortion_bounds(latents, tissue.coords, 0.2, sections=tissue.sections)
    assert display.bounds == bounds
    assert display.hexbin_.get_array().sum() == len(display.tissue) == 2 * 150 * 149 // 2
    line = display.ax_.lines[0].get_xydata()
    np.testing.assert_allclose(line[1, 1] / line[1, 0], bounds.scale)
    slopes = [(xy[1, 1] / xy[1, 0]) for xy in (each.get_xydata() for each in display.ax_.lines)]
    np.testing.assert_allclose(
        slopes[1:], [bounds.lower, bounds.upper, bounds.observed_lower, bounds.observed_upper]
    )
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[1:] == ["Theorem 1, 80% of pairs", "measured, 80% of pairs"]


def test_given_axes_are_used_and_too_few_are_refused(tissue):
    y = tissue.coords
    figure, axes = plt.subplots(2, 2)
    display = displays.ReconstructionDisplay.from_predictions(
        y, y, sections=tissue.sections, ax=axes
    )
    assert display.figure_ is figure
    error = displays.ErrorMapDisplay.from_predictions(y, y + 1, ax=axes[0, 0])
    assert error.ax_ is axes[0, 0]
    with pytest.raises(ValueError, match="ax holds 1 axes, but 2 are needed"):
        displays.ReconstructionDisplay.from_predictions(y, y, ax=axes[0, 0])
    # Drawing again gives another figure.
    assert display.plot().figure_ is not figure


def test_options_reach_the_artists(tissue):
    y = tissue.coords
    display = displays.ErrorMapDisplay.from_predictions(y, y + 1, cmap="cividis", s=7)
    points = display.ax_.collections[0]
    assert points.get_cmap().name == "cividis"
    assert points.get_sizes().tolist() == [7]


@pytest.mark.parametrize("n_dims", [1, 3])
def test_one_and_three_dimensions(n_dims):
    y = np.random.default_rng(0).normal(size=(30, n_dims))
    display = displays.ReconstructionDisplay.from_predictions(y, y)
    expected = np.column_stack([y, np.zeros(30)])[:, :2]
    np.testing.assert_array_equal(display.y_true, expected)
    error = displays.ErrorMapDisplay.from_predictions(y, y + 1)
    np.testing.assert_allclose(error.errors, np.sqrt(n_dims))


def test_bad_input_is_named(tissue):
    y = tissue.coords
    with pytest.raises(ValueError, match="y_true has 300, y_pred has 299"):
        displays.ReconstructionDisplay.from_predictions(y, y[:-1])
    bad = y.copy()
    bad[3] = np.nan
    with pytest.raises(ValueError, match="y_pred has values that are NaN"):
        displays.ReconstructionDisplay.from_predictions(y, bad)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    y = np.zeros((5, 2)) + np.arange(5)[:, None]
    with pytest.raises(ImportError, match=r'pip install "sklearn-dpvae\[plot\]"'):
        displays.ErrorMapDisplay.from_predictions(y, y + 1)


@pytest.mark.parametrize("name", displays.__all__)
def test_every_display_draws_a_file(name, tissue, model, tmp_path):
    """A figure can be laid out and written, with its legends and color bars."""
    y, latents = tissue.coords, model.transform(tissue.X, sections=tissue.sections)
    cls = getattr(displays, name)
    display = {
        "ReconstructionDisplay": lambda: cls.from_predictions(y, y + 1),
        "ErrorMapDisplay": lambda: cls.from_predictions(y, y + 1),
        "UncertaintyDisplay": lambda: cls.from_predictions(y, y[:, 0] ** 2, y),
        "PlacesDisplay": lambda: cls.from_estimator(model, tissue.X, y, cells=[3]),
        "LossCurvesDisplay": lambda: cls.from_estimator(model),
        "WeightCurveDisplay": lambda: cls([1, 10], np.ones((2, 2))).plot(),
        "TransferMatrixDisplay": lambda: cls(np.eye(2), ["a", "b"]).plot(),
        "GeneMapDisplay": lambda: cls.from_predictions(
            y, tissue.X, tissue.genes, show=tissue.genes[:4]
        ),
        "LatentDisplay": lambda: cls.from_predictions(latents, color=y[:, 0], label="x"),
        "DistanceDisplay": lambda: cls.from_predictions(latents, y, sections=tissue.sections),
    }[name]()
    display.figure_.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def square(n=4):
    return np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2) * 100.0


@pytest.mark.parametrize(
    ("options", "down"),
    [
        ({}, False),
        ({"unit": "µm"}, False),
        ({"unit": "px"}, True),
        ({"unit": "px", "y_axis": "up"}, False),
        ({"y_axis": "down"}, True),
    ],
)
def test_images_run_downward(options, down):
    y = square()
    maps = [
        *displays.ReconstructionDisplay.from_predictions(y, y, **options).ax_,
        displays.ErrorMapDisplay.from_predictions(y, y + 1, **options).ax_,
        displays.UncertaintyDisplay.from_predictions(y, np.ones(16), **options).ax_,
        *displays.GeneMapDisplay.from_predictions(y, y, ["a", "b"], show=["a"], **options).ax_,
    ]
    for ax in maps:
        assert ax.yaxis_inverted() == down
        # Drawn again into the same axes, they still do.
    display = displays.ErrorMapDisplay.from_predictions(y, y + 1, ax=maps[2], **options)
    assert display.ax_.yaxis_inverted() == down
    with pytest.raises(ValueError, match="y_axis must be 'auto', 'up' or 'down', got 'left'"):
        displays.ErrorMapDisplay.from_predictions(y, y, y_axis="left")


def test_a_unit_is_on_the_scale_bar_and_the_labels():
    y = square(8)  # 700 wide, so that a fourth is 175.
    display = displays.ErrorMapDisplay.from_predictions(y, y + np.array([3.0, 4.0]), unit="µm")
    bar = display.ax_.lines[-1].get_xdata()
    assert bar[1] - bar[0] == 100
    assert [text.get_text() for text in display.ax_.texts] == ["100 µm"]
    assert display.colorbar_.ax.get_ylabel() == "error (µm)"
    assert display.ax_.get_title() == "median error 5 µm"
    plain = displays.ErrorMapDisplay.from_predictions(y, y)
    assert not plain.ax_.lines
    assert plain.colorbar_.ax.get_ylabel() == "error (tissue units)"


def test_categories_keep_their_order_and_colors():
    pandas = pytest.importorskip("pandas")
    y = square()
    color = pandas.Series(pandas.Categorical(["b", "c", "a", "b"] * 4, categories=list("cdba")))
    show = displays.ReconstructionDisplay.from_predictions

    def labels_and_shades(display, ax=1):
        points = [c for c in display.ax_[ax].collections if not c.get_label().startswith("_")]
        return {c.get_label(): to_hex(c.get_facecolor()[0]).upper() for c in points}

    plain = labels_and_shades(show(y, y, color=color))
    assert plain == {"c": PALETTE[0].upper(), "b": PALETTE[2].upper(), "a": PALETTE[3].upper()}
    assert list(plain) == ["c", "b", "a"]
    colors = ["#111111", "#222222", "#333333", "#444444"]
    of_scanpy = {"c": "#111111", "b": "#333333", "a": "#444444"}
    assert labels_and_shades(show(y, y, color=color, palette=colors)) == of_scanpy
    assert labels_and_shades(show(y, y, color=color, palette=of_scanpy | {"d": "k"})) == of_scanpy
    # A label has one color in all sections.
    sections = np.repeat(["s", "t"], 8)
    texts = np.array(["x", "y"] * 4 + ["y", "z"] * 4)
    display = show(y, y, color=texts, sections=sections)
    assert labels_and_shades(display, 1)["y"] == labels_and_shades(display, 3)["y"]
    with pytest.raises(ValueError, match="palette has no color for d"):
        show(y, y, color=color, palette=of_scanpy)
    with pytest.raises(ValueError, match="palette has 2 colors for 4 labels"):
        show(y, y, color=color, palette=colors[:2])


def test_many_labels_have_many_colors_and_points_are_rasterized():
    y = square(5)
    labels = [f"type {i:02d}" for i in range(25)]
    display = displays.ReconstructionDisplay.from_predictions(y, y, color=labels, marked=[])
    shades = {tuple(c.get_facecolor()[0]) for c in display.ax_[1].collections}
    assert len(shades) == 24
    assert not display.ax_[0].lines
    assert len(display.ax_[1].get_legend().get_texts()) == 25
    assert not display.ax_[0].collections[0].get_rasterized()
    many = np.random.default_rng(0).uniform(size=(5001, 2))
    display = displays.ErrorMapDisplay.from_predictions(many, many)
    assert display.ax_.collections[0].get_rasterized()
