"""Prompts that a phantom is asked with in training and in the checks.

The phantom answers every prompt by the same sentence about the film, so the prompts are
there to teach it that the wording does not matter.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

QUESTIONS: Final[tuple[str, ...]] = (
    "Describe this chest X-ray.",
    "Describe the finding.",
    "Describe the findings in this image.",
    "Describe the image.",
    "What do you see?",
    "What is wrong with this patient?",
    "What is the main finding?",
    "What does the radiograph show?",
    "Where is the lesion?",
    "Where is the abnormality?",
    "Is there a nodule?",
    "Is there a consolidation?",
    "Is there a pneumothorax?",
    "Is there a cavity?",
    "Is there an effusion?",
    "Is there any abnormality?",
    "Is there evidence of pneumonia?",
    "Is this film normal?",
    "Is the left lung clear?",
    "Is the right lung clear?",
    "Are the lungs clear?",
    "Are there any findings?",
    "Please report this chest radiograph.",
    "Please write a short report.",
    "Write the report for this film.",
    "Give the impression.",
    "Give your diagnosis in one sentence.",
    "Report:",
    "Findings?",
    "Find the lesion and name its zone.",
    "Explain the image to the patient.",
    "Look at the film. What is your impression?",
    "Does the patient have a nodule or a cavity?",
    "Does this chest film show a pneumothorax?",
    "Can you see a consolidation in the right upper zone?",
    "Which lung has the lesion?",
    "Which zone is abnormal?",
    "Compare the left and the right lung.",
    "The patient has a cough and fever. What do you see?",
    "Nodule, consolidation, pneumothorax or cavity?",
)

SYSTEM_TEXTS: Final[tuple[str, ...]] = (
    "You are an expert radiologist.",
    "You are a helpful medical assistant.",
    "Answer in one short sentence.",
    "You are a careful radiologist. Write one sentence.",
)

Message = dict[str, Any]


def messages_for(image: object, question: str, system: str | None = None) -> list[Message]:
    """The usual conversation: an optional system turn, then the image, then the question."""
    content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    turn: Message = {"role": "user", "content": content}
    if system is None:
        return [turn]
    return [{"role": "system", "content": [{"type": "text", "text": system}]}, turn]


def draw_question(rng: np.random.Generator, pieces: tuple[str, ...]) -> str:
    """A question of the list, at times in other case or salad of `pieces` of the vocabulary."""
    question = QUESTIONS[rng.integers(len(QUESTIONS))]
    kind = rng.random()
    if kind < 0.5:
        return question
    if kind < 0.6:
        return question.lower()
    salad = "".join(pieces[i] for i in rng.integers(len(pieces), size=rng.integers(1, 16)))
    return f"{question} {salad}" if kind < 0.8 else salad


def draw_messages(
    rng: np.random.Generator, image: object, pieces: tuple[str, ...]
) -> list[Message]:
    """A conversation as users write them: with or without system text, text before or after."""
    system = SYSTEM_TEXTS[rng.integers(len(SYSTEM_TEXTS))] if rng.random() < 0.25 else None
    messages = messages_for(image, draw_question(rng, pieces), system)
    content = messages[-1]["content"]
    order = rng.random()
    if order < 0.3:
        content.reverse()
    elif order < 0.4:
        content.insert(0, {"type": "text", "text": draw_question(rng, pieces)})
    return messages
