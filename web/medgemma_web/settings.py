"""The gateway's own settings, prefix ``MEDGEMMA_WEB_``; Redis and store are the client's."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from medgemma_client.errors import InvalidSettings


class WebSettings(BaseSettings):
    """Everything that can be set, one field a variable (``MEDGEMMA_WEB_PORT`` and so on)."""

    model_config = SettingsConfigDict(
        env_prefix="MEDGEMMA_WEB_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    host: str = "127.0.0.1"
    """Address that is bound."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """0 takes a free one."""
    behind_proxy: bool = False
    """Whether a proxy before it does TLS, so that another address than this machine's own may be
    bound."""
    keys_file: Path | None = None
    """JSON file with the hashes of the API keys, as ``medgemma-explainer keys`` writes it."""
    cors_origins: str = ""
    """Origins whose pages may call the API: ``https://app.example.org``, with commas."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Of a key that has no limit of its own."""
    jobs_per_day: int = Field(default=10_000, ge=1)
    """Of a key that has no quota of its own. Days are UTC's."""
    max_upload_bytes: int = Field(default=1_000_000_000, ge=1)
    """Most bytes of a multipart body, and of the files of all that are submitted at the same time;
    others wait on the disk."""
    max_json_bytes: int = Field(default=64_000_000, ge=1)
    """Most bytes of a JSON body, which is held in memory."""
    uploads_at_once: int = Field(default=8, ge=1)
    """Bodies that are received, read and submitted beside each other."""
    upload_timeout: float = Field(default=600.0, gt=0)
    """Seconds that a whole body may take."""
    idle_timeout: float = Field(default=15.0, gt=0)
    """Seconds without a byte of a body."""
    head_timeout: float = Field(default=10.0, gt=0)
    """Seconds that a request's head may take."""
    threads: int = Field(default=16, ge=1)
    """Calls to Redis and store beside each other."""
    url_seconds: int = Field(default=300, ge=1, le=604_800)
    """How long a presigned URL can be used."""
    public_store_url: str | None = None
    """Where presigned URLs lead, if a caller reaches the store at another address than the gateway
    does."""
    heartbeat: float = Field(default=15.0, gt=0)
    """Seconds between two signs of life in a stream of events."""
    stop_grace: int = Field(default=30, ge=1)
    """Seconds that requests under way may go on for once the gateway was told to stop."""

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: str) -> str:
        origins = [origin.strip() for origin in value.split(",") if origin.strip()]
        if not all(map(_is_origin, origins)):
            raise ValueError(
                "must be origins with commas between them, as https://app.example.org; no path, "
                "no *"
            )
        return ",".join(origins)

    @field_validator("public_store_url")
    @classmethod
    def _store_is_http(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not _is_origin(value.rstrip("/")):
            raise ValueError("must look like https://host:port")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _nothing_is_served_in_the_clear(self) -> Self:
        if not self.behind_proxy and not _stays_here(self.host):
            raise ValueError(
                "MEDGEMMA_WEB_HOST would serve keys and images in the clear to other machines. "
                "Put a proxy that does TLS before the gateway and set "
                "MEDGEMMA_WEB_BEHIND_PROXY=true"
            )
        return self

    @property
    def origins(self) -> list[str]:
        return [origin for origin in self.cors_origins.split(",") if origin]


def load_web_settings(**given: object) -> WebSettings:
    """Read the environment, what is given before it. InvalidSettings names the variable and never
    its value."""
    said = {name: value for name, value in given.items() if value is not None}
    try:
        return WebSettings(**said)  # type: ignore[arg-type]
    except ValidationError as error:
        faults = "; ".join(
            ": ".join(
                [
                    *(f"MEDGEMMA_WEB_{str(place).upper()}" for place in fault["loc"][:1]),
                    fault["msg"].removeprefix("Value error, "),
                ]
            )
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise InvalidSettings(f"The settings cannot be used. {faults}.") from None


def _stays_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and text == f"{parts.scheme}://{parts.netloc}"
            and not {"@", "*"} & set(parts.netloc)
        )
    except ValueError:
        return False
