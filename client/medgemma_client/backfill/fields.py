"""From the fields of a record to a row: what each column may hold, and what stands in for it.

One rule for all columns that take several: a text that is a JSON list is that list. Of an error
nothing quotes a field.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from medgemma_client.backfill.rows import BadRow, Defaults, Priority, Row
from medgemma_client.backfill.target import read_targets
from medgemma_client.question import check_given, make_targets
from medgemma_tasks.asking import Prompt, make_messages
from medgemma_tasks.errors import InvalidRequest, MedGemmaError, RowIncomplete, RowMalformed

MOST_CHARACTERS = 100_000
"""Of a field; what a request takes of a text."""
MOST_COLUMNS = 1_000
MOST_OF_AN_ITEM = 200
MOST_IMAGES_WRITTEN = 10_000

_ITEMS = ("item", "item_id", "id")
_IMAGES = ("image", "images")
_CONTROL = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no text holds: characters that steer a terminal or end a string, and halves of one."""
_BREAKS = re.compile(r"[\t\n\r\u2028\u2029]")


@dataclass(frozen=True, repr=False)
class Columns:
    """Which columns mean what, among those that a record has."""

    item: str | None
    images: tuple[str, ...]
    by_name: Mapping[str, str]
    """The record's name of a column by the one that is known here."""
    rest: tuple[str, ...]

    @classmethod
    def among(cls, names: Collection[str], defaults: Defaults) -> Columns:
        """By name, whatever its case; what Defaults names, as it is written there."""
        plain = {name.strip().lower(): name for name in names if name.strip()}
        if defaults.item_column is not None:
            item = defaults.item_column if defaults.item_column in names else None
        else:
            item = next((plain[name] for name in _ITEMS if name in plain), None)
        images = tuple(name for name in defaults.image_columns if name in names)
        if not defaults.image_columns:
            images = tuple(plain[name] for name in _IMAGES if name in plain)
        elif len(images) != len(defaults.image_columns):
            images = ()
        taken = {item, *images}
        known = ("prompt", "target", "keyword", "answer", "system", "priority")
        by_name = {name: plain[name] for name in known if plain.get(name, item) not in taken}
        taken |= set(by_name.values())
        rest = tuple(name for name in names if name.strip() and name not in taken)
        return cls(item, images, by_name, rest)

    def lacking(self, defaults: Defaults) -> str | None:
        """What all rows need and no column holds, as the end of a sentence; None: nothing."""
        if self.item is None:
            return f'no column "{defaults.item_column or "item"}"'
        if not self.images:
            return f"no column {' and '.join(map(_quoted, defaults.image_columns or ('images',)))}"
        if "prompt" not in self.by_name and defaults.prompt is None:
            return 'no column "prompt", and no prompt was given for all rows'
        return None


def make_row(
    number: int, record: Mapping[str, Any], columns: Columns, defaults: Defaults
) -> Row | BadRow:
    """The row of a record that has the columns which all rows need; or why there is none."""
    item = None
    try:
        item = _item(record[columns.item])  # type: ignore[index]
        return _checked(_row(number, item, record, columns, defaults))
    except MedGemmaError as error:
        return BadRow.of(number, item, error)


def _row(
    number: int, item: str, record: Mapping[str, Any], columns: Columns, defaults: Defaults
) -> Row:
    if len(columns.rest) > MOST_COLUMNS:
        raise RowMalformed(f"The row has more than {MOST_COLUMNS} columns.")
    known = {name: _plain(record[column]) for name, column in columns.by_name.items()}
    own = dict(read_targets(_texts("target", known.get("target"))))
    if words := _texts("keyword", known.get("keyword")):
        own["keyword"] = (*own.get("keyword", ()), *words)
    if known.get("target") is None and not own:
        own = {
            "keyword": tuple(defaults.keyword),
            "characters": defaults.characters,
            "token": defaults.token,
            "prompt_words": tuple(defaults.prompt_words),
            "every_token": defaults.every_token,
        }
    prompt = _prompt(known.get("prompt"))
    if prompt is None:
        prompt = defaults.prompt
    if prompt is None:
        raise RowIncomplete("The row has no prompt, and none was given for all rows.")
    return Row(
        number=number,
        item=item,
        images=_images(record, columns.images),
        prompt=prompt,
        system=_text("system", known.get("system")) or defaults.system,
        answer=_text("answer", known.get("answer")) or defaults.answer,
        priority=_priority(known.get("priority")) or defaults.priority,
        metadata={
            check_text("name of a column", name): _metadata(record[name]) for name in columns.rest
        },
        options=dict(defaults.options),
        **own,
    )


def _checked(row: Row) -> Row:
    """The row, where a request could be made of it and some images."""
    named = 0 if isinstance(row.prompt, str) else sum(isinstance(p, int) for p in row.prompt)
    make_messages(row.prompt, row.system, named)
    make_targets(row.wanted)
    check_given(row.answer)
    return row


def _item(value: object) -> str:
    value = _plain(value)
    if value is None:
        raise RowIncomplete("The row has no item.")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MOST_OF_AN_ITEM:
        return str(value)
    item = check_text("item", value).strip()
    if len(item) > MOST_OF_AN_ITEM or _BREAKS.search(item):
        raise RowMalformed(
            f"The item has a tab, a line break, or more than {MOST_OF_AN_ITEM} characters."
        )
    return item


def _images(record: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[str, ...]:
    """The images of all columns, in order: a list, or a text of paths with ; between them."""
    found: list[str] = []
    for column in columns:
        value = _plain(record[column])
        if isinstance(value, os.PathLike):
            value = str(value)
        if isinstance(value, list | tuple):
            value = [str(path) if isinstance(path, os.PathLike) else path for path in value]
        several = _several(value)
        if not isinstance(several, list | tuple):
            several = [path.strip() for path in check_text("image", several).split(";")]
        found += [check_text("image", path) for path in several if path != ""]
    if not found:
        raise RowIncomplete("The row has no image.")
    if len(found) > MOST_IMAGES_WRITTEN or any(map(_BREAKS.search, found)):
        raise RowMalformed(
            f"An image has a tab or a line break in its name, or there are more than "
            f"{MOST_IMAGES_WRITTEN}."
        )
    return tuple(found)


def _prompt(value: object) -> Prompt | None:
    """A text; or a list of texts and images: numbers from 0, or @1, @2 ... as a command has it."""
    several = _several(value)
    if several is value and not isinstance(value, list | tuple):
        return _text("prompt", value)
    parts: list[str | int] = []
    for part in several:
        if isinstance(part, int) and not isinstance(part, bool):
            parts.append(part)
        elif mark := re.fullmatch(r"@([0-9]{1,9})", text := check_text("prompt", part)):
            parts.append(int(mark[1]) - 1)
        else:
            parts.append(text)
    return tuple(parts) or None


def _texts(what: str, value: object) -> tuple[str, ...]:
    several = _several(value)
    return tuple(check_text(what, text) for text in ([several] if several is value else several))


def _several(value: Any) -> Any:
    """The list that a value is or spells; () for None; the value itself where it is none."""
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return [*value]
    if isinstance(value, str) and value.startswith("[") and len(value) <= MOST_CHARACTERS:
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if isinstance(found, list):
            return found
    return value


def _text(what: str, value: object) -> str | None:
    return None if value is None else check_text(what, value)


def check_text(what: str, value: object) -> str:
    """A text that may stand in a request. Raises RowMalformed."""
    if not isinstance(value, str):
        raise RowMalformed(f"The {what} is no text but {type(value).__name__}.")
    if len(value) > MOST_CHARACTERS:
        raise RowMalformed(f"The {what} has more than {MOST_CHARACTERS} characters.")
    if found := _CONTROL.search(value):
        if found[0] >= "\ud800":
            raise RowMalformed(f"The {what} is not UTF-8 throughout. Save the manifest as UTF-8.")
        raise RowMalformed(f"The {what} holds the control character U+{ord(found[0]):04X}.")
    return value


def _priority(value: object) -> Priority | None:
    match _text("priority", value):
        case None:
            return None
        case "batch":
            return "batch"
        case "interactive":
            return "interactive"
    raise InvalidRequest("The priority is neither batch nor interactive.")


def _metadata(value: object) -> str:
    """A text as it is, a date as ISO 8601 and anything else as JSON has it."""
    value = _plain(value)
    if hasattr(value, "isoformat"):
        value = value.isoformat()
    if value is None or isinstance(value, str):
        return check_text("metadata", value or "")
    try:
        return check_text("metadata", json.dumps(value, ensure_ascii=False, default=str))
    except (TypeError, ValueError, RecursionError):
        raise RowMalformed(f"A field is no text but {type(value).__name__}.") from None


def _plain(value: Any) -> Any:
    """None for what is empty, a missing number (NaN) included; of NumPy's the plain values."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, float) and value != value:
        return None
    return value


def _quoted(name: str) -> str:
    return f'"{name}"'
