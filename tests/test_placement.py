"""Placements: from latents to positions within a frame."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_dpvae._fitted.frames import SectionFrames
from sklearn_dpvae._fitted.placement import (
    JointPlacement,
    LatentPlacement,
    ReferencePlacement,
    make_placement,
)

SCALE = 0.5


@pytest.fixture(scope="module")
def frame():
    """A frame of latents that are positions, turned and scaled, with noise."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 10, size=(120, 2))
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    latents = SCALE * coords @ turn + rng.normal(scale=0.05, size=coords.shape)
    frames = SectionFrames.fit(
        latents,
        coords,
        np.zeros(120, dtype=np.int64),
        np.array(["only"]),
        n_landmarks=60,
        rng=np.random.RandomState(0),
    )
    return frames.frames[0], latents, coords


PLACEMENTS = [LatentPlacement(), ReferencePlacement(SCALE), JointPlacement(SCALE, 0)]


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda p: type(p).__name__)
def test_placements_recover_a_known_map(placement, frame):
    frame, latents, coords = frame
    placed = placement.place(latents, frame)
    assert np.linalg.norm(placed - coords, axis=1).mean() < 0.25


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda p: type(p).__name__)
def test_pointwise_says_whether_a_cell_is_placed_by_itself(placement, frame):
    frame, latents, _ = frame
    some = placement.place(latents[:30], frame)
    alike = np.array_equal(some, placement.place(latents, frame)[:30])
    assert alike == placement.pointwise


def test_joint_placement_has_the_lower_stress(frame):
    """Eq. (6) is solved for all cells, not for each against the landmarks."""
    frame, latents, _ = frame

    def stress(placed):
        between = np.linalg.norm(placed[:, None] - placed[None], axis=-1)
        wanted = np.linalg.norm(latents[:, None] - latents[None], axis=-1) / SCALE
        return np.square(between - wanted).sum()

    joint = JointPlacement(SCALE, 0).place(latents, frame)
    assert stress(joint) < stress(ReferencePlacement(SCALE).place(latents, frame))


@pytest.mark.parametrize(
    ("name", "n_components", "kind"),
    [
        ("auto", 2, LatentPlacement),
        ("auto", 3, ReferencePlacement),
        ("latent", 3, LatentPlacement),
        ("reference", 2, ReferencePlacement),
        ("mds", 2, JointPlacement),
    ],
)
def test_names_stand_for_placements(name, n_components, kind):
    made = make_placement(name, n_components=n_components, n_dims=2, scale=2.0, seed=3)
    assert type(made) is kind
    if kind is not LatentPlacement:
        assert made.scale == 2.0


def test_each_row_is_answered_in_the_frame_of_its_section():
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(90, 2))
    codes = np.repeat([0, 1], [30, 60])
    coords = latents + np.array([[0.0, 0.0], [100.0, 0.0]])[codes]
    frames = SectionFrames.fit(
        latents, coords, codes, np.array(["a", "b"]), n_landmarks=9, rng=np.random.RandomState(0)
    )
    assert frames.frames[frames.default].label == "b"
    rows = {frame.label: own for frame, own in frames.by_rows(["b", "a", "b"], 3)}
    assert_array_equal(rows["b"], [0, 2])
    assert_array_equal(rows["a"], [1])
    [(frame, own)] = frames.by_rows(["c", "c"], 2)
    assert frame.label == "b"
    assert_array_equal(own, [0, 1])
    assert_allclose(frame.similarity.transform(latents[:1]), latents[:1] + np.array([100.0, 0.0]))
