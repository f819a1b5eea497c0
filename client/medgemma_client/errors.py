"""The errors that calls raise: one tree under ``MedGemmaError``, each with a stable ``code``."""

from medgemma_tasks.errors import *  # noqa: F403 - all of them, whoever adds one
