"""A small true Gemma 3 that reads synthetic chest films whose lesion is known."""

from pathlib import Path


def checkpoint_path() -> Path:
    """Folder of the shipped checkpoint, for `from_pretrained`."""
    return Path(__file__).parent / "checkpoint"
