"""Results survive their file, and what is not such a file is told as damaged."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from medgemma_tasks.arrays import load, pack, save, unpack
from medgemma_tasks.errors import ArtifactDamaged, FileUnreadable, InternalError
from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.models import Areas
from tests.tasks.test_explanation import make as made


def assert_same(first: ExplanationResult, second: ExplanationResult) -> None:
    for name, value in vars(first).items():
        other = getattr(second, name)
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, other), name
            assert value.dtype == other.dtype, name
        else:
            assert value == other, name


@pytest.mark.parametrize("images", [1, 3])
def test_a_result_survives_its_file(images: int, tmp_path: Path) -> None:
    result = made(
        images,
        raw_image_relevancy=np.ones((images, 16, 16)),
        raw_text_relevancy=np.ones(6),
        thinking="hm",
        patch_scores=np.ones((images, 32, 32)),
        areas=Areas(deletion=0.25, insertion=None, log_p=-0.5, log_p_covered=-3.0),
    )
    save([result], tmp_path / "result.bin")
    assert_same(result, *load(tmp_path / "result.bin"))


def test_the_same_result_has_the_same_bytes() -> None:
    assert pack([made()]) == pack([made()])


def test_the_arrays_can_be_read_without_this_package() -> None:
    with np.load(io.BytesIO(pack([made()])), allow_pickle=False) as stored:
        assert stored["image_scores"].shape == (1, 16, 16)
        assert "raw_image_relevancy" not in stored.files


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, image_scores=np.array([{"a": 1}], dtype=object))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"not a zip", pack([made()])[:200], pack([made()])[:-9], pickled()]
)
def test_damaged_arrays_are_told_as_such(data: bytes) -> None:
    with pytest.raises(ArtifactDamaged):
        unpack(data)


def test_one_flipped_byte_never_passes_for_a_result() -> None:
    whole = pack([made()])
    for place in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        try:
            (read,) = unpack(bytes(damaged))
        except ArtifactDamaged:
            continue
        assert_same(made(), read)  # a byte of no meaning, such as a date


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable):
        load(tmp_path / "none.npz")


def test_metadata_that_is_not_json_is_refused() -> None:
    with pytest.raises(InternalError):
        pack([made(metadata={"model": object()})])


def test_several_results_survive_one_file_in_their_order() -> None:
    results = [made(2, own_relevancy=0.5), made(2, raw_text_relevancy=np.ones(6)), made(2)]
    read = unpack(pack(results))
    assert len(read) == 3
    for one, other in zip(results, read, strict=True):
        assert_same(one, other)


def test_the_first_result_has_plain_names_and_the_others_a_number() -> None:
    with np.load(io.BytesIO(pack([made(), made()])), allow_pickle=False) as stored:
        assert {"image_scores", "image_scores.1"} <= set(stored.files)


def test_a_file_of_the_release_before_this_one_is_read() -> None:
    import json

    with np.load(io.BytesIO(pack([made()])), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    (rest,) = json.loads(arrays["rest"].tobytes())
    del rest["areas"]
    arrays["rest"] = np.frombuffer(json.dumps(rest).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    assert_same(*unpack(buffer.getvalue()), made())


def test_arrays_that_nothing_describes_are_damage() -> None:
    with np.load(io.BytesIO(pack([made()])), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{"image_scores.1": np.zeros(1)})
    with pytest.raises(ArtifactDamaged):
        unpack(buffer.getvalue())
