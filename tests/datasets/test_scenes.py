"""Drawn scenes: the same from the same seed, with boxes that fit what was drawn."""

import numpy as np
import pytest

from facetrain.datasets.drawn import scenes
from facetrain.datasets.drawn.face_render import render_face
from facetrain.datasets.drawn.scene_person import FACE, SIDE, Person, draw_person
from facetrain.datasets.drawn.scenes import draw_scene, draw_scenes
from facetrain.datasets.formats.labelled import LabelledPicture


@pytest.fixture(scope="module")
def many() -> list[LabelledPicture]:
    return draw_scenes(40, seed=3)


def sides(picture: LabelledPicture) -> list[float]:
    return [max(b.box[2] - b.box[0], b.box[3] - b.box[1]) for b in picture.boxes]


def test_a_scene_depends_on_its_arguments_alone(many: list[LabelledPicture]) -> None:
    draw_person.cache_clear()
    again = draw_scene(3, 7)
    np.testing.assert_array_equal(again.image, many[7].image)
    assert again.boxes == many[7].boxes and again.name == "scene-3-7"
    assert not np.array_equal(draw_scene(4, 7).image, again.image)


def test_scenes_are_colour_pictures_of_the_size_asked_for(many: list[LabelledPicture]) -> None:
    small = draw_scene(3, 0, width=320, height=192)
    assert small.image.shape == (192, 320, 3) and small.size == (320, 192)
    assert max(sides(small), default=0) < 97
    for scene in many:
        assert scene.image.shape == (416, 736, 3) and scene.image.dtype == np.uint8
        assert scene.image.std() > 3
    assert any(np.ptp(scene.image.astype(int), axis=-1).max() == 0 for scene in many)  # some are grey
    assert np.mean([np.ptp(scene.image.astype(int), axis=-1).max() > 50 for scene in many]) > 0.7


def test_faces_have_many_sizes_and_some_scenes_have_none(many: list[LabelledPicture]) -> None:
    found = np.array([side for scene in many for side in sides(scene)])
    assert 15.5 < found.min() < 22 and 140 < found.max() < 201
    assert all((found > low).mean() > share for low, share in ((24, 0.6), (50, 0.3), (100, 0.08)))
    counts = [len(scene.boxes) for scene in many]
    assert counts.count(0) in range(1, 12) and max(counts) > 7
    assert {box.name for scene in many for box in scene.boxes} == {"face"}


def test_boxes_lie_mostly_in_the_picture_and_hide_little_of_each_other(many: list[LabelledPicture]) -> None:
    outside, hidden = [], []
    for scene in many:
        for box in scene.boxes:
            seen = np.clip(box.box, 0, [736, 416, 736, 416])
            x1, y1, x2, y2 = box.box
            share = 1 - (seen[2] - seen[0]) * (seen[3] - seen[1]) / ((x2 - x1) * (y2 - y1))
            assert box.attributes["truncation"] == pytest.approx(share, abs=1e-5)
            outside.append(share)
            hidden.append(box.attributes["occlusion"])
    assert 0.1 < max(outside) <= 0.4
    assert 0.02 < np.mean(np.array(outside) > 0) < 0.4
    assert 0.02 < np.mean(hidden) < 0.5


def test_the_box_holds_the_face_from_the_chin_to_the_hair_line() -> None:
    forehead = []
    for number in range(12):
        patch = render_face(np.random.default_rng([5, number, 1]), SIDE, FACE, (SIDE / 2 - 0.5, SIDE / 2 - 0.5))
        person = draw_person(5, number)
        top = np.flatnonzero((patch.alpha > 0).any(axis=1))[0]
        left = np.flatnonzero((patch.alpha > 0)[: top + len(person.layers)].any(axis=0))[0]
        corner = left, top
        x1, y1, x2, y2 = person.box + np.tile(corner, 2)
        low, high = patch.points[:68].min(axis=0) + 0.5, patch.points[:68].max(axis=0) + 0.5
        assert y2 == pytest.approx(high[1], abs=0.01)
        assert x1 <= low[0] + 0.01 and x2 >= high[0] - 0.01
        assert (x2 - x1) < 1.1 * (high[0] - low[0])  # no ears
        forehead.append((low[1] - y1) / (high[1] - low[1]))
    assert min(forehead) > 0.1 and max(forehead) < 0.55


def test_boxes_are_true_to_the_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = np.zeros((60, 50, 4), np.uint8)
    layers[10:50, 15:45] = 255, 255, 0, 0
    person = Person(layers, np.array([15, 10, 45, 50], np.float32))
    monkeypatch.setattr(scenes, "draw_person", lambda seed, number: person)
    monkeypatch.setattr(scenes, "draw_backdrop", lambda rng, w, h: np.zeros((h, w, 3), np.float32))
    measured = 0
    for index in range(60):
        scene = draw_scene(1, index, width=320, height=240)
        lit = (scene.image[..., 1] > 64).astype(int)
        if len(scene.boxes) != 1 or scene.boxes[0].attributes["truncation"] > 0:
            continue
        rows, columns = np.flatnonzero(lit.sum(axis=1) > 4), np.flatnonzero(lit.sum(axis=0) > 4)
        found = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        np.testing.assert_allclose(scene.boxes[0].box, found, atol=1.0)
        measured += 1
    assert measured >= 4
