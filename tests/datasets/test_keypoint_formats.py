"""Real faces, written in the formats of others and read back: every format gives the same faces."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetrain.configs.fpenet.schema import SourceConfig
from facetrain.datasets.formats.fpenet_json import read_fpenet_json
from facetrain.datasets.formats.pts import read_pts_folder
from facetrain.datasets.image import read_image
from facetrain.datasets.sample import FaceSample
from facetrain.datasets.sources import read_source
from facetrain.tests.datasets.keypoint_files import WRITERS

FACES = 40


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 300-W and of YouTube Faces in one folder."""
    folder = tmp_path_factory.mktemp("real")
    for picture in sorted((shared_data / "300w" / "helen" / "test").glob("*.jpg"))[:FACES]:
        shutil.copy(picture, folder)
        shutil.copy(picture.with_suffix(".pts"), folder)
    shutil.copytree(shared_data / "ytfaces" / "images", folder / "images")
    shutil.copy(shared_data / "ytfaces" / "ytfaces.json", folder)
    return folder


@pytest.fixture(scope="module")
def faces(folder: Path) -> list[FaceSample]:
    """Some points are made missing and occluded, where a format can say so."""
    photographs, _ = read_pts_folder(SourceConfig(format="pts", path="."), folder)
    frames, _ = read_fpenet_json(SourceConfig(format="fpenet_json", path="ytfaces.json"), folder, 68)
    assert len(photographs) == FACES
    return sorted([*photographs, *frames[::80]], key=lambda face: face.name)


def marked(faces: list[FaceSample], form: str) -> list[FaceSample]:
    """The faces with a few points occluded and one missing, as far as the format can say so."""
    result = []
    for n, face in enumerate(faces):
        points, states = face.points.copy(), face.states.copy()
        if form not in ("wflw", "label_studio", "label_studio_min"):
            states[n % 60 : n % 60 + 3] = 1
        if form not in ("wflw", "cofw"):
            states[n % 50], points[n % 50] = 0, np.nan
        result.append(replace(face, points=points, states=states))
    return result


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_real_faces_are_the_same_in_every_format(folder: Path, faces: list[FaceSample], form: str) -> None:
    wanted = marked(faces, form)
    source = WRITERS[form](folder, wanted)
    count = {"wflw": 98, "cofw": 29}.get(form, 68)
    found, rejections = read_source(source, folder, count, [])
    assert rejections == []
    assert len(found) == len(wanted) > FACES
    for face, want in zip(found, wanted, strict=True):
        kept = min(count, 68)
        np.testing.assert_array_equal(face.states[:kept], want.states[:kept])
        np.testing.assert_allclose(face.points[:kept], want.points[:kept], atol=1e-4, rtol=0)
        if form == "cofw":
            np.testing.assert_array_equal(face.image, read_image(want.image, grey=True))
        else:
            assert (face.name, face.image) == (want.name, want.image)


def test_boxes_are_where_they_were(folder: Path, faces: list[FaceSample]) -> None:
    """The box around the points, in the coordinates of boxes."""
    for form, slack in (("wflw", 0.51), ("cofw", 1e-3), ("fpenet_tfrecords", 0.51)):
        found, _ = read_source(WRITERS[form](folder, faces), folder, {"wflw": 98, "cofw": 29}.get(form, 68), [])
        for face, want in zip(found, faces, strict=True):
            edges = [*want.points.min(axis=0), *want.points.max(axis=0)]
            assert face.box is not None
            np.testing.assert_allclose(face.box, edges, atol=slack + 0.5, rtol=0)
