"""Model files."""

from __future__ import annotations

import nets
import numpy as np
import pytest

import tfopt
from tfopt.errors import UnsupportedModel


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("build", [nets.branching, nets.sequential])
def test_a_model_comes_back_as_it_was(tmp_path, ending, build):
    model = nets.randomized(build())
    x = np.random.default_rng(0).random((4, 8, 8, 1), dtype="float32")
    path = tfopt.save(model, tmp_path / f"model{ending}")
    assert np.array_equal(tfopt.load(path)(x), model(x))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_damaged_files_are_refused_with_their_name(tmp_path, ending):
    path = tfopt.save(nets.sequential(), tmp_path / f"model{ending}")
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[: len(content) // 2], b"not a model"):
        path.write_bytes(damaged)
        with pytest.raises(UnsupportedModel, match=path.name):
            tfopt.load(path)


def test_what_is_no_model_file_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="no such file"):
        tfopt.load(tmp_path / "none.h5")
    with pytest.raises(UnsupportedModel, match=r"\.keras or \.h5"):
        tfopt.load(tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModel, match=r"\.keras or \.h5"):
        tfopt.save(nets.sequential(), tmp_path / "model")


def test_saving_where_nothing_can_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        tfopt.save(nets.sequential(), tmp_path / "file" / "model.h5")
