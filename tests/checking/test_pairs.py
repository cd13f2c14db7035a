"""Pairs of copies: none is missed, however they were made, and what is merely alike is none."""

import numpy as np
import pytest
from PIL import Image

from facetrain.checking.pairs import find_pairs, originals
from facetrain.datasets.drawn.scenes import draw_scene
from facetrain.datasets.duplicates import SIDE


def copy(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)).reshape(-1)


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    return [Image.fromarray(draw_scene(3, index).image) for index in range(30)]


def test_every_pair_is_found_that_comparing_all_with_all_finds():
    """Copies at all distances, compared in full."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(60, SIDE * SIDE))
    noisy = np.concatenate([base, base + rng.uniform(0, 0.6, (60, 1)) * rng.normal(size=base.shape)])
    copies = np.clip(128 + 30 * noisy, 0, 255).astype(np.uint8)
    flat = copies.astype(float) - copies.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    rows, columns = np.nonzero(np.triu(flat @ flat.T, 1) > 0.95)
    wanted = set(zip(rows.tolist(), columns.tolist(), strict=True))
    found = {(pair.one, pair.other) for pair in find_pairs(copies, 0.95, detail=-1) if not pair.mirrored}
    assert len(wanted) > 10
    assert found == wanted


def test_mirrored_and_smaller(scenes):
    whole = scenes[4]
    small = whole.resize((whole.width // 2, whole.height // 2)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    copies = np.stack([*map(copy, scenes), copy(small)])
    (pair,) = find_pairs(copies, 0.95)
    assert (pair.one, pair.other, pair.mirrored) == (4, 30, True)


def test_alike_in_large_forms_only():
    """A dark floor below a bright wall, other things on both."""
    rng = np.random.default_rng(1)
    rooms = np.where(np.arange(SIDE)[:, None] < 16, 200.0, 40.0) + rng.normal(0, 12, (2, SIDE, SIDE))
    copies = np.clip(rooms, 0, 255).astype(np.uint8).reshape(2, -1)
    assert find_pairs(copies, 0.95, detail=-1) != []
    assert find_pairs(copies, 0.95) == []


def test_none_and_empty_pictures_have_no_pair():
    assert find_pairs(np.zeros((0, SIDE * SIDE), np.uint8), 0.95) == []
    assert find_pairs(np.full((3, SIDE * SIDE), 90, np.uint8), 0.95) == []


def test_the_held_out_one_stays(scenes):
    copies = np.stack([copy(scenes[0])] * 4 + [copy(scenes[1])])
    parts = ["train", "train", "test", "test", "train"]
    found = originals(find_pairs(copies, 0.95), np.array([20, 21, 2, 3, 24]), parts)
    assert {late: min(pair.one, pair.other) if late != 3 else pair.one for late, pair in found.items()} == {
        0: 0,
        1: 1,
        3: 2,
    }
    assert 2 not in found and 4 not in found
