"""Real faces, written in the formats of others and read back: every format gives the same boxes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetrain.configs.facenet.schema import SourceConfig
from facetrain.datasets.detection_sources import READERS, read_pictures
from facetrain.datasets.formats.labelled import LabelledPicture
from facetrain.tests.datasets.box_files import WRITERS

MARKING = {"wider", "coco", "voc", "open_images"}  # the formats that can say that a box is not to be counted


@pytest.fixture(scope="module")
def pictures(shared_data: Path) -> list[LabelledPicture]:
    """WIDER's validation part: 394 pictures, 5,287 boxes, 205 of them marked; the two without area are left out."""
    found, _ = read_pictures(SourceConfig(format="wider", path="wider/wider_face_val_bbx_gt.txt"), shared_data)
    assert (len(found), sum(len(picture.boxes) for picture in found)) == (394, 5287)
    return found


def test_every_format_has_a_file_that_proves_it() -> None:
    assert set(WRITERS) == set(READERS)


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_real_faces_are_the_same_in_every_format(
    shared_data: Path, tmp_path: Path, pictures: list[LabelledPicture], form: str
) -> None:
    if form == "open_images":  # where a picture without a box has no line
        pictures = [picture for picture in pictures if picture.boxes]
    source = WRITERS[form](tmp_path, pictures, shared_data / "wider" / "WIDER_val" / "images")
    found, rejections = read_pictures(source, tmp_path)
    assert rejections == []
    assert [(picture.name, picture.size) for picture in found] == [(picture.name, picture.size) for picture in pictures]
    for picture, want in zip(found, pictures, strict=True):
        assert picture.image == want.image
        assert [box.name for box in picture.boxes] == [box.name for box in want.boxes]
        assert [box.marked for box in picture.boxes] == [box.marked and form in MARKING for box in want.boxes]
        boxes, wanted = ([box.box for box in one.boxes] for one in (picture, want))
        np.testing.assert_allclose(np.reshape(boxes, (-1, 4)), np.reshape(wanted, (-1, 4)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_a_box_without_end_is_never_learnt(tmp_path: Path, pictures: list[LabelledPicture], form: str) -> None:
    """It is named, and goes alone or takes its picture with it."""
    first = next(picture for picture in pictures if picture.boxes)
    broken = replace(first, boxes=(replace(first.boxes[0], box=(float("inf"),) * 4), *first.boxes[1:]))
    other = next(picture for picture in reversed(pictures) if picture.boxes)
    images = tmp_path / "pictures"
    for picture in (first, other):
        (images / picture.name).parent.mkdir(parents=True)
        (images / picture.name).symlink_to(picture.image)
    found, rejections = read_pictures(WRITERS[form](tmp_path, [broken, other], images), tmp_path)
    assert len(rejections) == 1
    counts = {picture.name: len(picture.boxes) for picture in found}
    assert counts.pop(other.name) == len(other.boxes)
    assert counts in ({}, {first.name: len(first.boxes) - 1})
