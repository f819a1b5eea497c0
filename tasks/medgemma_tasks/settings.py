"""Settings from the environment, prefix ``MEDGEMMA_``. Each default works with the embedded parts.

AWS credentials are not settings of ours: they come by the usual AWS chain.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from medgemma_tasks.errors import InvalidSettings
from medgemma_tasks.models import ModelName, Tenant
from medgemma_tasks.transport import names_tls_options, redis_tls, travels_plain

NOT_SHOWN = "(not shown)"
"""What stands in a message for a URL of which no part is known to be without a secret."""

_HOST = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_STORE = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]{2,62}(/[^?#@\s]*)?")


class Settings(BaseSettings):
    """Everything that can be set, one field a variable (``MEDGEMMA_BROKER_URL`` and so on)."""

    model_config = SettingsConfigDict(
        env_prefix="MEDGEMMA_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Redis or Valkey: the queue and the live state. May hold a password, hence secret."""
    store_url: str = "s3://medgemma"
    """``s3://bucket`` or ``s3://bucket/prefix``."""
    s3_endpoint_url: str | None = None
    """Endpoint of an S3 server other than AWS; None means AWS."""
    s3_region: str = "us-east-1"
    ca_file: str | None = None
    """A PEM file of certificates of authority, for Redis and S3 servers that none of the public
    ones vouches for. Certificate and host name are verified with or without it."""
    allow_plain: bool = False
    """Whether connections without TLS may leave this machine: on a network of one's own."""
    dicomweb_hosts: str = ""
    """DICOMweb servers that a client may read from and store to: ``host`` or ``host:port``, with
    commas. None by default."""
    tenant: Tenant = "local"
    model: ModelName = "phantom"
    """``phantom``, a Hugging Face repository, or the name under which MODEL_PATH is served."""
    model_path: str | None = None
    """A folder with the model's files; None means that MODEL is a repository (or the phantom)."""
    revision: str | None = None
    """Commit of the Hugging Face repository; None takes the newest and records which that was."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 on CUDA, float32 on the CPU. The phantom is always float32."""
    engine: str = "medgemma_worker.pipeline:load"
    """``module:function`` that loads what explains; tests put a stub here."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    """Most pixels (width x height x frames read) of an image, checked before decoding."""
    max_file_bytes: int = Field(default=1_000_000_000, ge=1)
    """Most bytes of an image file."""
    max_images: int = Field(default=125, ge=1)
    """Most images of a request."""
    soft_time_limit: int = Field(default=600, ge=1)
    """Seconds after which a job is ended by an exception."""
    hard_time_limit: int = Field(default=660, ge=1)
    """Seconds after which the process that runs a job is killed."""
    longest_step: float = Field(default=5.0, gt=0)
    """Seconds that answers decoded together may take, as was measured; fewer are taken at once
    where it would be longer. An interactive job waits at most for the end of such a step."""
    visibility_timeout: int = Field(default=60, ge=2)
    """Seconds after which an unacknowledged message whose lease nobody renews is given back."""
    max_attempts: int = Field(default=3, ge=1)
    """How often a job is started before it is marked failed with code worker_lost."""
    max_queued: int = Field(default=100_000, ge=1)
    """Most messages on a queue; a client that finds more is told so, and publishes nothing."""
    load_timeout: int = Field(default=1800, ge=1)
    """Seconds that loading the model may take."""
    shutdown_grace: int = Field(default=30, ge=0)
    """Seconds that a worker told to stop may go on with the job it runs."""
    connect_timeout: float = Field(default=2.0, gt=0)
    """Seconds to wait for a connection to Redis or S3."""
    live_ttl: int = Field(default=86_400, ge=60)
    """Seconds that live state stays in Redis after its last change."""
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Port at which a supervisor serves its metrics to Prometheus; None serves none."""
    metrics_host: str = "127.0.0.1"
    """Address that it binds for them. They tell devices and states, and nothing of any job."""
    log_format: Literal["text", "json"] = "text"
    """Of what workers, exporter and gateway log: lines for people, or one JSON object a line."""

    @field_validator("broker_url")
    @classmethod
    def _broker_is_redis(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        _check(url, "redis", "rediss")
        if ";" in url:
            # What stands behind it would be another server, to kombu alone.
            raise ValueError("must be one URL; in a password write ; as %3B")
        if names_tls_options(url):
            raise ValueError(
                "must not say how TLS is done: certificate and host name are always verified; "
                "MEDGEMMA_CA_FILE names an authority of your own"
            )
        return value

    @field_validator("s3_endpoint_url")
    @classmethod
    def _endpoint_is_http(cls, value: str | None) -> str | None:
        if not value:
            return None  # an empty variable is how a compose file says that there is none
        _check(value, "http", "https")
        return value

    @field_validator("ca_file")
    @classmethod
    def _authorities_are_there(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            ssl.create_default_context(cafile=value)
        except OSError:  # of which ssl's is one; it may quote the path
            raise ValueError("must be a file with certificates in PEM form") from None
        return value

    @field_validator("store_url")
    @classmethod
    def _store_is_s3(cls, value: str) -> str:
        if not _STORE.fullmatch(value):
            raise ValueError("must look like s3://bucket or s3://bucket/prefix")
        return value.rstrip("/")

    @field_validator("dicomweb_hosts")
    @classmethod
    def _hosts_are_hosts(cls, value: str) -> str:
        names = [name.strip().lower() for name in value.split(",") if name.strip()]
        if not all(map(_HOST.fullmatch, names)):
            raise ValueError(
                "must be names of hosts with commas between them, as pacs.example.org or "
                "pacs.example.org:8443; no scheme, no path, no *"
            )
        return ",".join(names)

    @model_validator(mode="after")
    def _soft_limit_comes_first(self) -> Self:
        if self.soft_time_limit >= self.hard_time_limit:
            # The job's process would be killed before it could mark the job as too long.
            raise ValueError("MEDGEMMA_SOFT_TIME_LIMIT must be below MEDGEMMA_HARD_TIME_LIMIT")
        return self

    @model_validator(mode="after")
    def _nothing_leaves_the_machine_in_the_clear(self) -> Self:
        urls = {"BROKER_URL": self.broker_url.get_secret_value()}
        if self.s3_endpoint_url is not None:
            urls["S3_ENDPOINT_URL"] = self.s3_endpoint_url
        for name, url in urls.items():
            if travels_plain(url) and not self.allow_plain:
                raise ValueError(
                    f"MEDGEMMA_{name} would send everything in the clear to another machine "
                    f"({without_credentials(url)}). Use rediss:// or https://; or, on a network of "
                    "your own that nobody else reaches, set MEDGEMMA_ALLOW_PLAIN=true"
                )
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # An endpoint may hold credentials, and a path tells whose machine this is.
        yield from {"broker": self.broker_address, "store": self.store_address}.items()
        yield from {"tenant": self.tenant, "model": self.model}.items()

    @property
    def redis_tls(self) -> dict[str, Any]:
        """How connections to the broker are verified: options of redis-py and of kombu alike."""
        return redis_tls(self.broker_url.get_secret_value(), self.ca_file)

    @property
    def bucket(self) -> str:
        return urlsplit(self.store_url).netloc

    @property
    def prefix(self) -> str:
        """Prefix of every key, empty or ending in a slash."""
        path = urlsplit(self.store_url).path.strip("/")
        return f"{path}/" if path else ""

    @property
    def broker_address(self) -> str:
        """The broker's address without credentials, fit for a message."""
        return without_credentials(self.broker_url.get_secret_value())

    @property
    def store_address(self) -> str:
        """The store's address without credentials, fit for a message."""
        endpoint = self.s3_endpoint_url
        where = "AWS S3" if endpoint is None else without_credentials(endpoint)
        return f"{where} bucket {self.bucket}"


def without_credentials(url: str) -> str:
    """Scheme, host and port of a URL. "(not shown)" where they cannot be told from a secret."""
    try:
        parts = urlsplit(url)
        whole = bool(parts.scheme and parts.hostname) and parts.port != 0
    except ValueError:  # its message quotes the URL
        return NOT_SHOWN
    # A password with a bare / ? or # ends the host part early; the @ then lies behind it.
    if not whole or "@" in parts.path + parts.query + parts.fragment:
        return NOT_SHOWN
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _check(url: str, *schemes: str) -> None:
    scheme, _, _ = url.partition("://")
    if scheme not in schemes or without_credentials(url) == NOT_SHOWN:
        raise ValueError(
            f"must look like {schemes[0]}://host:port ({' or '.join(schemes)}); in a password "
            "write / ? # and @ as %2F %3F %23 and %40"
        )


def load_settings() -> Settings:
    """Read the environment; InvalidSettings names the variable and never its value."""
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(map(_fault, error.errors(include_input=False, include_url=False)))
        raise InvalidSettings(f"The settings cannot be used. {faults}.") from None


def _fault(fault: ErrorDetails) -> str:
    said = fault["msg"].removeprefix("Value error, ")
    # A fault of two variables has no place of its own, and names both.
    return f"MEDGEMMA_{str(fault['loc'][0]).upper()}: {said}" if fault["loc"] else said
