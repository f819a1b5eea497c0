"""Whether a worker that starts here gets its model: from us, from a folder, or from the hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from medgemma_cli.doctor.computing import installed
from medgemma_cli.doctor.finding import Look, Part, Told, failed, not_applicable, ok, warning
from medgemma_tasks.settings import Settings, without_credentials

SECONDS = 10.0
"""Longest wait for an answer of the hub."""

CONFIG = "config.json"
ARCHITECTURE = "Gemma3ForConditionalGeneration"
NEEDED = ("tokenizer*", "*processor_config.json")
"""What must be there beside config.json and the weights."""
PHANTOM = "phantom"


class Access:
    """The checks of MEDGEMMA_MODEL's files. Only a worker loads them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = settings.model

    def part(self) -> Part:
        looks: list[tuple[str, Look]] = [("here", self.here)]
        if self._settings.model_path is not None or self._name == PHANTOM:
            looks.append(("files", self.folder))
        else:
            looks += [("token", self.token), ("files", self.hub)]
        return "model", looks

    def here(self) -> Told:
        """Whether a worker can run here at all."""
        if installed("transformers"):
            path = self._settings.model_path
            where = "a folder" if path is not None else "Hugging Face"
            return ok(f"{self._name}, from {'this package' if self._name == PHANTOM else where}.")
        return not_applicable("transformers is not installed: no model is loaded here.")

    def folder(self) -> Told:
        """Whether a folder holds a model that we can explain. Its path is not told."""
        from medgemma_worker.phantom import checkpoint_path

        path = self._settings.model_path
        folder = checkpoint_path() if path is None else Path(path)
        whose = "The folder of this package" if path is None else "The folder MEDGEMMA_MODEL_PATH"
        if not folder.is_dir():
            return failed(
                f"{whose} is not there, or may not be read.",
                "Name the folder that holds config.json; mount it where a container runs.",
            )
        lacking = _lacking(folder)
        if lacking:
            return failed(f"{whose} lacks {', '.join(lacking)}.", "Fetch or copy it anew, whole.")
        return _of_config(json.loads((folder / CONFIG).read_text()), "All files are there")

    def token(self) -> Told:
        """Whether there is one; what it is good for, only the hub can say."""
        from huggingface_hub import get_token

        if get_token():
            return ok("There is a Hugging Face token.")
        return not_applicable(
            "There is no Hugging Face token.",
            "A gated model, as MedGemma is, needs one: set HF_TOKEN, or run `hf auth login`.",
        )

    def hub(self) -> Told:
        """Whether the hub lets us have the files, or they are in its cache."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        cached = self._cached()
        if constants.HF_HUB_OFFLINE:
            if cached:
                return ok("HF_HUB_OFFLINE is set, and the files are in the cache.")
            return failed(
                "HF_HUB_OFFLINE is set, and the files are not all in the cache.",
                "Fetch them once without it (`hf download`), or set MEDGEMMA_MODEL_PATH.",
            )
        where = without_credentials(constants.ENDPOINT)
        url = hf_hub_url(self._name, CONFIG, revision=self._settings.revision)
        try:
            get_hf_file_metadata(url, timeout=SECONDS)
        except OfflineModeIsEnabled:
            return failed("The hub may not be asked.", "Unset HF_HUB_OFFLINE.")
        except HfHubHTTPError as error:
            return self._refused(error.response.status_code, where)
        except Exception as error:  # noqa: BLE001 - of whichever HTTP library the hub's client takes
            found = f"{where} cannot be reached ({type(error).__name__})"
            if cached:
                return warning(
                    f"{found}; the files are in the cache.",
                    "Set HF_HUB_OFFLINE=1, so that no worker waits for it.",
                )
            return failed(
                f"{found}, and the files are not all in the cache.",
                "Open the way to it (HTTPS_PROXY, HF_ENDPOINT), or set MEDGEMMA_MODEL_PATH.",
            )
        return ok(f"{where} lets us have it{'; it is in the cache' if cached else ''}.")

    def _refused(self, status: int, where: str) -> Told:
        """A gated repository says 401 to nobody, and 403 to who did not accept its licence."""
        from huggingface_hub import get_token

        page = f"{where}/{self._name}"
        if status == 401 and not get_token():
            return failed(
                f"{where} asks who we are (401): the model is gated, or there is none.",
                f"Accept the licence at {page}, make a token that may read, and set HF_TOKEN.",
            )
        if status == 401:
            return failed(
                f"{where} does not know the token (401).",
                "Make a new one that may read, and set HF_TOKEN to it.",
            )
        if status == 403:
            return failed(
                "The licence of the model is not accepted by whose token this is (403).",
                f"Accept it at {page}, logged in as the same user; a fine-grained token must be "
                "allowed gated repositories.",
            )
        if status == 404:
            return failed(
                f"{where} has no such repository, revision, or config.json (404).",
                "Check MEDGEMMA_MODEL and MEDGEMMA_REVISION.",
            )
        return failed(f"{where} is out of order (HTTP {status}).", "Try again later.")

    def _cached(self) -> bool:
        """Whether the hub's cache has the configuration and each file of the weights."""
        from huggingface_hub import try_to_load_from_cache

        revision = self._settings.revision or "main"
        path = try_to_load_from_cache(self._name, CONFIG, revision=revision)
        return isinstance(path, str) and not _lacking(Path(path).parent)


def _lacking(folder: Path) -> list[str]:
    """What a checkpoint needs and this folder has not."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weights = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        weights = ["model.safetensors"]
    names = [name for name in (CONFIG, *weights) if not _readable(folder / name)]
    return names + [pattern for pattern in NEEDED if not list(folder.glob(pattern))]


def _readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def _of_config(config: dict[str, Any], found: str) -> Told:
    if ARCHITECTURE not in config.get("architectures", [ARCHITECTURE]):
        return failed(
            f"{found}, and they are those of another model.",
            "Only Gemma 3 vision-language models can be explained, of which MedGemma is one.",
        )
    return ok(f"{found}.")
