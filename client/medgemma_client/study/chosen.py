"""From a folder, a zip file or a list of files to what MedGemma is shown of it, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from medgemma_client.study import notes, rasters
from medgemma_client.study.files import StudySource, open_files
from medgemma_client.study.finding import find_frames, nothing, numbered, told_how
from medgemma_client.study.headers import Frame
from medgemma_client.study.limits import Limits
from medgemma_client.study.sampling import MOST_PATCHES, MOST_SLICES, sample
from medgemma_client.study.series import Kind, Series, choose, group, in_order
from medgemma_client.study.showing import show
from medgemma_client.study.study import Origin, Study
from medgemma_client.study.volume import Arranged, arrange
from medgemma_client.study.windows import Windowing, check_windowing
from medgemma_tasks.errors import (
    BurnedIn,
    InvalidRequest,
    StudyEmpty,
)

Gaps = Literal["refuse", "report"]
Burned = Literal["warn", "refuse", "allow"]


@dataclass(frozen=True, repr=False)
class Choices:
    """What a caller may say; see ``read_study``."""

    series: int | str | None = None
    like: str | None = None
    """The modality to be preferred where no series is asked for."""
    kind: Kind | None = None
    most: int | None = None
    pair: bool = False
    window: Windowing = "medgemma"
    gaps: Gaps = "refuse"
    burned_in: Burned = "warn"
    limits: Limits = field(default_factory=Limits)


def read_study(
    source: StudySource,
    *,
    prior: StudySource | None = None,
    series: int | str | None = None,
    prior_series: int | str | None = None,
    kind: Kind | None = None,
    max_slices: int | None = None,
    window: Windowing = "medgemma",
    gaps: Gaps = "refuse",
    burned_in: Burned = "warn",
    limits: Limits | None = None,
) -> Study:
    """Read a study, and choose what MedGemma is shown of it; ``notes`` of the result say what.

    Args:
        source: A folder (with those in it), a zip file, a file; or a list of them, in order.
        prior: An earlier study of the same patient, read the same way.
        series: Which one, by its number from 1 in ``notes``, or by modality, such as "MR". None
            takes the best; see ``series.group``.
        prior_series: Likewise of the prior study; None prefers the modality of the current one.
        kind: What to take it for, if not what it says of itself: a list of PNG files is "images"
            unless it is called "patches".
        max_slices: Most images; more are sampled (see ``sampling``). None: 85, of patches 125. A
            prior and a current study share them.
        window: See ``windows.Windowing``.
        gaps: "refuse" raises where slices are missing, doubled, damaged or contradictory;
            "report" goes on with the rest, and says so.
        burned_in: What to do where a header says that names are burnt into the pixels: "warn" in
            ``notes``, "refuse" or "allow".

    Raises:
        InputError: As one of its classes; StudyError and its kin for a study as a whole.
        InvalidRequest: A choice that there is not.
    """
    said = _checked(
        Choices(
            series=series,
            kind=kind,
            most=max_slices,
            window=window,
            gaps=gaps,
            burned_in=burned_in,
            limits=limits or Limits(),
            pair=prior is not None,
        )
    )
    if prior is None:
        return _read(source, said)
    if (said.most or MOST_SLICES) < 2:
        raise InvalidRequest("A prior and a current study take two images at least.")
    said = replace(said, most=(said.most or MOST_SLICES) // 2)
    after = _read(source, said)
    said = _checked(replace(said, series=prior_series, like=after.modality))
    return _pair(_read(prior, said), after)


def _pair(before: Study, after: Study) -> Study:
    told = [f"Prior study: {note}" for note in before.notes]
    told += [f"Current study: {note}" for note in after.notes]
    if before.modality != after.modality:
        told.append(
            f"The prior study is {before.modality or 'of no known modality'}, the current one "
            f"{after.modality or 'of none'}."
        )
    return replace(
        after,
        images=before.images + after.images,
        origins=before.origins + after.origins,
        notes=tuple(told),
        prior=before,
    )


def _checked(said: Choices) -> Choices:
    if said.gaps not in ("refuse", "report"):
        raise InvalidRequest('gaps is "refuse" or "report".')
    if said.burned_in not in ("warn", "refuse", "allow"):
        raise InvalidRequest('burned_in is "warn", "refuse" or "allow".')
    if said.kind not in (None, "volume", "images", "loop", "patches"):
        raise InvalidRequest('kind is "volume", "images", "loop" or "patches".')
    if isinstance(said.series, bool) or not isinstance(said.series, int | str | None):
        raise InvalidRequest("series is a number from 1, or a modality.")
    if said.most is not None and (not isinstance(said.most, int) or said.most < 1):
        raise InvalidRequest("max_slices is a whole number of 1 or more.")
    return replace(said, window=check_windowing(said.window))


def _read(source: StudySource, said: Choices) -> Study:
    with open_files(source, said.limits) as files:
        if not files:
            raise StudyEmpty("There is no file in the study.", left_out={})
        frames, left_out, damage = find_frames(files, said.limits, refuse=said.gaps == "refuse")
        if not frames and not damage:
            if left_out:
                raise nothing(files, left_out)
            return rasters.read(files, said.kind, said.most, said.limits)
        if not frames:
            raise damage[0]
        found = group(frames)
        at = choose(found, said.series, said.like)
        told = notes.of_choice(found, at, asked=said.series is not None)
        told += notes.of_left_out(left_out)
        told += notes.of_damage(damage, "file")
        return _shown(found[at], said, told)


def _shown(series: Series, said: Choices, told: list[str]) -> Study:
    kind = said.kind or series.kind
    frames: Sequence[Frame] = series.frames
    arranged: Arranged | None = None
    if kind == "volume":
        arranged = arrange(frames)
        # A slice on its own has no neighbours to contradict it.
        if arranged.faults and said.gaps == "refuse" and len(frames) > 1:
            raise told_how(arranged.faults[0])
        frames = arranged.frames
        told += [fault.message for fault in arranged.faults] + list(arranged.notes)
    else:
        frames = in_order(frames)
    if kind == "images" and said.pair and len(frames) > 1:
        told.append(f"Of {len(frames)} images the first is shown: a pair has one of each study.")
        frames = frames[:1]
    most = said.most or (MOST_PATCHES if kind == "patches" else MOST_SLICES)
    indices = sample(len(frames), most)
    if len(indices) < len(frames):
        told.append(
            f"Of {len(frames)} images {len(indices)} are shown, at even distances, the last one "
            "among them."
        )
    told += notes.of_pixels([frames[k] for k in indices], said.burned_in == "warn")
    if said.burned_in == "refuse" and any(frames[k].tags.burned_in for k in indices):
        raise BurnedIn(
            "The headers say that names or other text are burnt into the pixels. Have the images "
            'cleaned, or pass burned_in="allow" if you know better.'
        )
    told += notes.of_values(frames, kind, said.window)
    volume = arranged.volume if arranged else None
    found, damage = show(
        frames,
        indices,
        said.window if kind == "volume" or isinstance(said.window, tuple) else "file",
        volume.planes if volume else None,
        said.limits,
    )
    if damage:
        broken = [
            numbered(error, "Image", k + 1, len(frames)) if len(frames) > 1 else error
            for k, error in damage
        ]
        if said.gaps == "refuse" or not found:
            raise told_how(broken[0]) if found else broken[0]
        told += notes.of_damage(broken, "image")
    return Study(
        kind=kind,
        modality=series.modality,
        images=tuple(one.image for one in found),
        notes=tuple(told),
        volume=volume,
        shown=tuple(one.index for one in found),
        origins=tuple(_origin(frames[one.index]) for one in found),
    )


def _origin(frame: Frame) -> Origin:
    return Origin(frame.file, frame.header.frame if frame.header.frames > 1 else None)
