"""What a row says of its images, and the files it means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from medgemma_client.backfill.resolve import Place, S3Object, resolve
from medgemma_tasks.errors import (
    BucketNotAllowed,
    FileUnreadable,
    InvalidRequest,
    MedGemmaError,
    PathOutside,
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    (folder / "series" / "deeper").mkdir(parents=True)
    for name in ("10.dcm", "2.dcm", "1.2.840.7", "SLICE", "notes.txt", ".hidden.dcm", "DICOMDIR"):
        (folder / "series" / name).touch()
    (folder / "series" / "deeper" / "3.dcm").touch()
    (folder / "a.png").touch()
    return folder


def found(base: Path, *images: str, buckets: Sequence[str] = (), most: int = 85) -> list[Place]:
    return resolve(images, base=base, buckets=buckets, max_images=most)


def test_a_relative_path_starts_from_the_base_and_an_absolute_one_does_not(base: Path) -> None:
    other = base.parent / "b.png"
    assert found(base, "a.png", str(other)) == [base / "a.png", other]


def test_a_folder_is_its_image_files_in_the_order_in_which_people_count(base: Path) -> None:
    names = [Path(str(place)).name for place in found(base, "series")]
    assert names == ["1.2.840.7", "2.dcm", "10.dcm", "SLICE"]


def test_a_pattern_is_the_files_it_matches_in_that_order(base: Path) -> None:
    series = base / "series"
    assert found(base, "series/*.dcm") == [series / "2.dcm", series / "10.dcm"]
    assert found(base, "**/3.dcm") == [series / "deeper" / "3.dcm"]


def test_a_file_that_is_called_like_a_pattern_is_that_file(base: Path) -> None:
    (base / "scan[1].png").touch()
    (base / "scan1.png").touch()
    assert found(base, "scan[1].png") == [base / "scan[1].png"]


@pytest.mark.parametrize("image", ["series", "series/*", "**/*.dcm"])
def test_a_link_that_leads_out_of_the_folder_is_refused(base: Path, image: str) -> None:
    outside = base.parent / "outside.dcm"
    outside.touch()
    (base / "series" / "4.dcm").symlink_to(outside)
    with pytest.raises(PathOutside) as told:
        found(base, image)
    assert "outside.dcm" not in told.value.message


def test_a_link_within_the_folder_or_one_that_is_named_itself_is_followed(base: Path) -> None:
    (base / "series" / "4.dcm").symlink_to("2.dcm")
    (base / "link.png").symlink_to(base.parent / "anything.png")
    assert base / "series" / "4.dcm" in found(base, "series")
    assert found(base, "link.png") == [base / "link.png"]


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("series/*.bmp", FileUnreadable),
        ("series/deeper/empty", FileUnreadable),
        ("nowhere/*.png", FileUnreadable),
        ("s3://bucket", FileUnreadable),
        ("s3://bucket/", FileUnreadable),
        ("s3://bucket/key", BucketNotAllowed),
        ("series", InvalidRequest),
        ("series/*", InvalidRequest),
    ],
)
def test_what_gives_no_images_or_too_many_is_refused_without_its_name(
    base: Path, image: str, kind: type[MedGemmaError]
) -> None:
    (base / "series" / "deeper" / "empty").mkdir()
    with pytest.raises(kind) as told:
        found(base, image, most=3)
    assert "series" not in told.value.message


def test_the_limit_counts_all_images_of_a_row(base: Path) -> None:
    assert len(found(base, "a.png", "series/*.dcm", most=3)) == 3
    with pytest.raises(InvalidRequest, match="takes: 3"):
        found(base, "series/*.dcm", "a.png", "a.png", most=3)


def test_an_object_of_an_allowed_bucket_is_itself(base: Path) -> None:
    objects = found(base, "s3://mine/a/b;*.dcm", buckets=["mine"])
    assert objects == [S3Object("mine", "a/b;*.dcm")]
