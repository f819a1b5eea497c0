"""The phantom's tokenizer: a few hundred tokens that behave as Gemma 3's do.

It is a real `GemmaTokenizer`: a byte-fallback BPE over text whose spaces are written "▁",
with no splitting before it. Every word below grows letter by letter along its own chain of
merges; letters and bytes catch all other text. Like Gemma's, it cannot tell a "▁" from a
space; any other text decodes to itself.
"""

from __future__ import annotations

import re
from typing import Final

from transformers import GemmaTokenizer

from medgemma_worker.phantom.images import KINDS, NO_LESION, ZONES, answer_text
from medgemma_worker.phantom.prompts import QUESTIONS, SYSTEM_TEXTS

CONTROLS: Final[tuple[str, ...]] = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "<unused94>",
    "<unused95>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
LONGEST_NEWLINES: Final = 16  # newlines in a row that are still one token

# Findings are cut into pieces, since a real keyword is seldom one token.
PIECES: Final[dict[str, tuple[str, ...]]] = {
    "consolidation": ("cons", "olid", "ation"),
    "pneumothorax": ("pneumo", "thorax"),
    "cavity": ("cav", "ity"),
    "effusion": ("eff", "usion"),
    "pneumonia": ("pneumo", "nia"),
}

CHAT_TEMPLATE: Final = """\
{{- bos_token -}}
{%- set lead = namespace(text='') -%}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
  {%- set turns = messages[1:] -%}
  {%- if messages[0]['content'] is string -%}
    {%- set lead.text = messages[0]['content'] ~ '\n\n' -%}
  {%- else -%}
    {%- for item in messages[0]['content'] -%}
      {%- set lead.text = lead.text ~ item['text'] -%}
    {%- endfor -%}
    {%- set lead.text = lead.text ~ '\n\n' -%}
  {%- endif -%}
{%- endif -%}
{%- for message in turns -%}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('Turns must alternate between user and model, and begin with user') -}}
  {%- endif -%}
  {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
  {{- '<start_of_turn>' ~ role ~ '\n' -}}
  {%- if loop.first -%}{{- lead.text -}}{%- endif -%}
  {%- if message['content'] is string -%}
    {{- message['content'] | trim -}}
  {%- else -%}
    {%- for item in message['content'] -%}
      {%- if item['type'] == 'image' -%}
        {{- '<start_of_image>' -}}
      {%- elif item['type'] == 'text' -%}
        {{- item['text'] | trim -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{- '<end_of_turn>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<start_of_turn>model\n' -}}
{%- endif -%}
"""


def answers() -> tuple[str, ...]:
    """Every answer the phantom knows."""
    return (NO_LESION, *(answer_text(kind, zone) for kind in KINDS for zone in ZONES))


def _words() -> tuple[list[str], list[str]]:
    """Words that follow a space (written with "▁"), and pieces that follow nothing."""
    text = " ".join((*QUESTIONS, *SYSTEM_TEXTS, *answers()))
    spaced, bare = set[str](), {"user", "model"}
    for word in re.findall(r"\w+", text):
        head, *rest = PIECES.get(word.lower(), (word.lower(),))
        bare.update(rest)
        if word[0].islower():
            spaced.add("▁" + head)
        else:
            bare.add(head.capitalize())
    # Capitals first: their chains must be complete before a bare piece takes a letter of them.
    return sorted(spaced), sorted(bare, key=lambda piece: (piece[0].islower(), piece))


def _newline_merges() -> list[tuple[str, str]]:
    """Merges that join any run of up to LONGEST_NEWLINES newlines, in whatever order."""
    sizes = [(i, total - i) for total in range(2, LONGEST_NEWLINES + 1) for i in range(1, total)]
    return [("\n" * left, "\n" * right) for left, right in sizes]


def build_tokenizer() -> GemmaTokenizer:
    """Make the tokenizer from the word list: no training, always the same ids."""
    spaced, bare = _words()
    merges = _newline_merges()
    for word in (*spaced, *bare):
        merges += [(word[:end], word[end]) for end in range(1, len(word))]
    merges = list(dict.fromkeys(merges))

    letters = ["▁", "\n", *(chr(code) for code in range(0x21, 0x7F))]
    tokens = [*CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    tokens += [left + right for left, right in merges]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}

    tokenizer = GemmaTokenizer(
        vocab=vocab,
        merges=merges,
        add_bos_token=True,
        boi_token="<start_of_image>",  # noqa: S106
        eoi_token="<end_of_image>",  # noqa: S106
        image_token="<image_soft_token>",  # noqa: S106
        extra_special_tokens=["<unused94>", "<unused95>", "<start_of_turn>", "<end_of_turn>"],
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
