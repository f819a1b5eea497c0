"""The tokenizer behaves as Gemma 3's, and the chat template has its form."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, GemmaTokenizer

from medgemma_worker.phantom.images import KINDS
from medgemma_worker.phantom.vocabulary import (
    CONTROLS,
    LONGEST_NEWLINES,
    answers,
    build_tokenizer,
)

# Of all text, only a literal "▁" is lost: it stands for a space, as in Gemma's own tokenizer.
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))


@pytest.fixture(scope="module")
def tokenizer() -> GemmaTokenizer:
    return build_tokenizer()


def _ids(tokenizer: GemmaTokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@given(text=any_text)
def test_any_text_comes_back_exactly(tokenizer: GemmaTokenizer, text: str) -> None:
    # A control token spelled out, such as <unk>, is none of a user's texts: prompts refuse it.
    assume(not any(token in text for token in tokenizer.all_special_tokens))
    ids = _ids(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


@given(text=any_text)
def test_offsets_cover_the_text_in_order(tokenizer: GemmaTokenizer, text: str) -> None:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    assert offsets == sorted(offsets)
    assert "".join(text[a:b] for a, b in dict.fromkeys(offsets)) == text


@pytest.mark.parametrize("count", range(1, LONGEST_NEWLINES + 1))
def test_newlines_in_a_row_are_one_token(tokenizer: GemmaTokenizer, count: int) -> None:
    assert len(_ids(tokenizer, "\n" * count)) == 1
    assert len(_ids(tokenizer, "user" + "\n" * count + "model")) == 3


def test_findings_of_several_pieces_are_several_tokens(tokenizer: GemmaTokenizer) -> None:
    counts = {kind: len(_ids(tokenizer, f" {kind}")) for kind in KINDS}
    assert counts == {"nodule": 1, "consolidation": 3, "pneumothorax": 2, "cavity": 2}


def test_every_other_word_of_an_answer_is_one_token(tokenizer: GemmaTokenizer) -> None:
    for answer in answers():
        for word in answer.rstrip(".").split():
            if word not in KINDS:
                assert len(_ids(tokenizer, word if word[0].isupper() else f" {word}")) == 1


def test_the_finding_comes_after_the_same_three_tokens(tokenizer: GemmaTokenizer) -> None:
    heads = {tuple(_ids(tokenizer, answer)[:3]) for answer in answers()[1:]}
    assert heads == {tuple(_ids(tokenizer, "There is a"))}


def test_the_vocabulary_is_several_hundred_tokens(tokenizer: GemmaTokenizer) -> None:
    assert 500 < len(tokenizer) < 1000


def test_control_tokens_are_one_token_each_and_special(tokenizer: GemmaTokenizer) -> None:
    for token in CONTROLS:
        assert len(_ids(tokenizer, token)) == 1
        assert token in tokenizer.all_special_tokens


def test_encoding_plain_text_adds_a_bos(tokenizer: GemmaTokenizer) -> None:
    """As Gemma's does; so a rendered chat template encoded this way would hold two."""
    assert tokenizer("No")["input_ids"][0] == tokenizer.bos_token_id


def test_building_twice_gives_the_same_ids() -> None:
    assert build_tokenizer().get_vocab() == build_tokenizer().get_vocab()


def test_a_saved_tokenizer_loads_as_it_was(tmp_path: Path, tokenizer: GemmaTokenizer) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Is there a pneumothorax?\n\n\n  é 肺 <start_of_image>"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.chat_template == tokenizer.chat_template


def _render(tokenizer: GemmaTokenizer, messages: list[dict[str, object]]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def test_system_text_is_folded_into_the_first_user_turn(tokenizer: GemmaTokenizer) -> None:
    question: dict[str, object] = {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "Hm?"}],
    }
    expected = (
        "<bos><start_of_turn>user\nBe brief.\n\n<start_of_image>Hm?<end_of_turn>\n"
        "<start_of_turn>model\n"
    )
    for content in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        assert _render(tokenizer, [{"role": "system", "content": content}, question]) == expected


def test_assistant_is_written_as_model(tokenizer: GemmaTokenizer) -> None:
    turns: list[dict[str, object]] = [
        {"role": "user", "content": " Hm? "},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Sure?"},
    ]
    assert _render(tokenizer, turns) == (
        "<bos><start_of_turn>user\nHm?<end_of_turn>\n<start_of_turn>model\nNo.<end_of_turn>\n"
        "<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_turns_that_do_not_alternate_are_an_error(tokenizer: GemmaTokenizer) -> None:
    turn: dict[str, object] = {"role": "user", "content": "Hm?"}
    with pytest.raises(Exception, match="must alternate"):
        _render(tokenizer, [turn, turn])
