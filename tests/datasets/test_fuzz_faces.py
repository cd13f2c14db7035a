"""The readers of keypoints on files that nobody wrote; `benchmarks/fuzz_readers.py` does so as long as one likes."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facetrain.tests.datasets.fuzz_faces import TARGETS, prepare
from facetrain.tests.datasets.fuzzing import files, try_file


@pytest.mark.parametrize("name", TARGETS)
def test_right_files_are_read(tmp_path: Path, name: str) -> None:
    """Or the fuzzing below would show nothing."""
    prepare(tmp_path)
    for seed in TARGETS[name].seeds:
        assert try_file(TARGETS[name], tmp_path, seed) == "samples"
        assert TARGETS[name].read(tmp_path)[1] == []


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_wrong_files_give_samples_rejections_or_a_data_error(tmp_path: Path, name: str, data: st.DataObject) -> None:
    if not (tmp_path / "a.png").exists():
        prepare(tmp_path)
    try_file(TARGETS[name], tmp_path, data.draw(files(TARGETS[name])))
