"""One line of a manifest: a question that can be asked, or the reason why it cannot.

Nothing of a row is ever logged: an id, a path or a prompt may name a patient.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from medgemma_client.question import Wanted
from medgemma_tasks.asking import Prompt
from medgemma_tasks.errors import MedGemmaError

Priority: TypeAlias = Literal["batch", "interactive"]


@dataclass(frozen=True, repr=False)
class Row:
    """One question, checked as far as it can be without its images."""

    number: int
    """Where it stands, for people: the line of a CSV or JSONL file (a header being line 1), else
    the record, from 1."""
    item: str
    """What the caller calls it; unique in its run."""
    images: tuple[str, ...]
    """As written: files, folders, globs, s3:// objects."""
    prompt: Prompt
    keyword: tuple[str, ...] = ()
    characters: tuple[int, int | None] | None = None
    token: int | None = None
    prompt_words: tuple[str, ...] = ()
    every_token: bool = False
    system: str | None = None
    answer: str | None = None
    """Explain this answer, and generate none."""
    priority: Priority = "batch"
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Whatever else its line says, by column; carried to the results."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else ``Client.submit`` takes, as plain JSON values: method, max_new_tokens ..."""

    @property
    def wanted(self) -> Wanted:
        """What of the answer or the prompt it wants explained."""
        return Wanted(
            keyword=self.keyword,
            characters=self.characters,
            token=self.token,
            prompt_words=self.prompt_words,
            every_token=self.every_token,
            occurrence=self.options.get("occurrence", 1),
            whole_word=self.options.get("whole_word", True),
        )

    def fingerprint(self) -> str:
        """SHA-256 in hex of all of it but its place: a row that was changed is another row."""
        held = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "number"}
        spelt = json.dumps(held, default=dict, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(spelt.encode()).hexdigest()


@dataclass(frozen=True, repr=False)
class BadRow:
    """A line that is no question, or one whose images cannot be used."""

    number: int
    item: str | None
    """None where the line does not say it, or what it says cannot be repeated."""
    code: str
    """Of one of our errors."""
    message: str
    """For the person who wrote the manifest, and for no log."""

    @classmethod
    def of(cls, number: int, item: str | None, error: MedGemmaError) -> BadRow:
        """The row that an error refuses."""
        return cls(number, item, error.code, error.message)


@dataclass(frozen=True, repr=False)
class Defaults:
    """What holds for each row whose line does not say otherwise; and how columns are called."""

    prompt: Prompt | None = None
    keyword: tuple[str, ...] = ()
    characters: tuple[int, int | None] | None = None
    token: int | None = None
    prompt_words: tuple[str, ...] = ()
    every_token: bool = False
    """The five above are one: a row that names a target of its own has none of them."""
    system: str | None = None
    answer: str | None = None
    priority: Priority = "batch"
    options: Mapping[str, Any] = field(default_factory=dict)
    """As ``Row.options``; no column sets them."""
    item_column: str | None = None
    """None: item, item_id or id."""
    image_columns: tuple[str, ...] = ()
    """Columns whose images follow one another. None named: image, images."""
