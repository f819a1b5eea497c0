"""hypothesis strategies for every model of the contract, made from the models themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import AwareDatetime, BaseModel

TEXT = st.text(max_size=30)
FEW = 3
"""Most items of a list that is not asked to hold more."""

WHOLE = st.integers(-(2**53), 2**53)
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT,
    lambda inner: st.lists(inner, max_size=FEW) | st.dictionaries(TEXT, inner, max_size=FEW),
    max_leaves=5,
)


def instances(model: type[BaseModel], text: SearchStrategy[str] = TEXT) -> SearchStrategy[Any]:
    """Valid instances of a model; ``text``: what stands where any text may."""
    fields = {
        name: _values(field.annotation, field.metadata, text)
        for name, field in model.model_fields.items()
    }
    # By their aliases, as a reader of JSON makes them.
    names = {name: field.alias or name for name, field in model.model_fields.items()}
    return st.fixed_dictionaries({names[name]: values for name, values in fields.items()}).map(
        model.model_validate
    )


def values(model: type[BaseModel], name: str) -> SearchStrategy[Any]:
    """Valid values of one field of a model."""
    field = model.model_fields[name]
    return _values(field.annotation, field.metadata, TEXT)


def _values(kind: Any, metadata: Sequence[Any], text: SearchStrategy[str]) -> SearchStrategy[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _values(arguments[0], [*arguments[1:], *metadata], text)
    if origin in (Union, UnionType):
        return st.one_of(*(_values(argument, metadata, text) for argument in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[1:] == (...,):
        least = _limit(metadata, "min_length") or 0
        items = st.lists(_values(arguments[0], [], text), min_size=least, max_size=max(least, FEW))
        return items.map(tuple)
    if origin is tuple:
        return st.tuples(*(_values(argument, [], text) for argument in arguments))
    if origin is dict:
        return st.dictionaries(text, _values(arguments[1], [], text), max_size=FEW)
    return _single(kind, metadata, text)


def _single(kind: Any, metadata: Sequence[Any], text: SearchStrategy[str]) -> SearchStrategy[Any]:
    if kind is Any:
        return JSON | text
    if kind is NoneType:
        return st.none()
    if kind is str:
        return _text(metadata, text)
    if kind is bool:
        return st.booleans()
    if kind is int:
        low, high = _limit(metadata, "ge"), _limit(metadata, "le")
        return st.integers(-(2**53) if low is None else low, 2**53 if high is None else high)
    if kind is float:
        low, high = _limit(metadata, "ge"), _limit(metadata, "le")
        above = _limit(metadata, "gt")
        return st.floats(
            low if above is None else above,
            high,
            allow_nan=False,
            allow_infinity=False,
            exclude_min=above is not None,
        )
    if kind in (datetime, AwareDatetime):
        return st.datetimes(timezones=st.just(UTC))
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    assert issubclass(kind, BaseModel), kind
    return instances(kind, text)


def _text(metadata: Sequence[Any], text: SearchStrategy[str]) -> SearchStrategy[str]:
    pattern = _limit(metadata, "pattern")
    least, most = _limit(metadata, "min_length") or 0, _limit(metadata, "max_length")
    if pattern is not None:
        found = st.from_regex(pattern.removesuffix("$") + r"\Z", alphabet=_ASCII)
    else:
        found = text
    return found.filter(lambda value: least <= len(value) <= (10**9 if most is None else most))


_ASCII = st.characters(codec="ascii")


def _limit(metadata: Sequence[Any], name: str) -> Any:
    """A limit by its name, of whichever of the things that pydantic keeps it in."""
    for item in metadata:
        if (found := getattr(item, name, None)) is not None:
            return found
    return None
