from __future__ import annotations

import pytest

from medgemma_tasks.errors import InvalidSettings
from medgemma_tasks.settings import Settings, load_settings, without_credentials


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGEMMA_STORE_URL", "s3://bucket/a/b/")
    monkeypatch.setenv("MEDGEMMA_MAX_ATTEMPTS", "5")
    settings = load_settings()
    assert (settings.bucket, settings.prefix, settings.max_attempts) == ("bucket", "a/b/", 5)


def test_a_store_without_a_prefix_has_none() -> None:
    assert Settings(store_url="s3://bucket").prefix == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEDGEMMA_STORE_URL", "https://secret-host/x"),
        ("MEDGEMMA_STORE_URL", "s3://key:hunter2@bucket"),
        ("MEDGEMMA_STORE_URL", "s3://key/hunter2@bucket"),
        ("MEDGEMMA_STORE_URL", "s3://bucket?secret"),
        ("MEDGEMMA_STORE_URL", "s3://x"),
        ("MEDGEMMA_BROKER_URL", "unix:///run/none.sock?password=hunter2"),
        ("MEDGEMMA_BROKER_URL", "127.0.0.1:6379"),
        ("MEDGEMMA_BROKER_URL", "amqp://user:hunter2@127.0.0.1"),
        ("MEDGEMMA_BROKER_URL", "redis://:hunter/2@127.0.0.1:1/0"),
        ("MEDGEMMA_BROKER_URL", "redis://:hunter#2@127.0.0.1:1/0"),
        ("MEDGEMMA_BROKER_URL", "redis://:hunter?2@127.0.0.1:1/0"),
        ("MEDGEMMA_BROKER_URL", "redis://user:123/4@127.0.0.1:1/0"),
        ("MEDGEMMA_BROKER_URL", "redis://user:123?4@127.0.0.1:1/0"),
        ("MEDGEMMA_BROKER_URL", "redis://[hunter2/0"),
        ("MEDGEMMA_BROKER_URL", "redis://:hunter2@127.0.0.1:99999/0"),
        ("MEDGEMMA_S3_ENDPOINT_URL", "127.0.0.1:9000"),
        ("MEDGEMMA_S3_ENDPOINT_URL", "user:hunter2@127.0.0.1:9000"),
        ("MEDGEMMA_S3_ENDPOINT_URL", "http://user:hunter2/x@127.0.0.1:9000"),
        ("MEDGEMMA_S3_ENDPOINT_URL", "https://"),
        ("MEDGEMMA_MAX_ATTEMPTS", "secret"),
        ("MEDGEMMA_TENANT", "No Such Tenant"),
        ("MEDGEMMA_DTYPE", "float8"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert name in caught.value.message
    for secret in (value, "hunter", "123"):
        assert secret not in caught.value.message


def test_a_soft_limit_that_the_hard_one_cuts_off_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEDGEMMA_SOFT_TIME_LIMIT", "660")
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    for name in ("MEDGEMMA_SOFT_TIME_LIMIT", "MEDGEMMA_HARD_TIME_LIMIT"):
        assert name in caught.value.message


def test_no_address_shows_credentials() -> None:
    settings = Settings.model_validate(
        {
            "broker_url": "rediss://user:secret@redis.example:6380/2?password=secret",
            "s3_endpoint_url": "https://key:secret@s3.example:9000",
            "store_url": "s3://bucket",
        }
    )
    assert settings.broker_address == "rediss://redis.example:6380"
    assert settings.store_address == "https://s3.example:9000 bucket bucket"
    assert "secret" not in settings.broker_address + settings.store_address
    assert "secret" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@ss@host/0", "redis://host"),
        ("redis://host:1/0", "redis://host:1"),
        ("redis://:p%40ss@[::1]:1/0?ssl_ca_certs=/x", "redis://[::1]:1"),
        ("unix:///run/x.sock?password=p", "(not shown)"),
        ("redis://:p/ss@host/0", "(not shown)"),
        ("redis://:1/2@host/0", "(not shown)"),
        ("redis://[p", "(not shown)"),
        ("user:p@host", "(not shown)"),
    ],
)
def test_only_scheme_host_and_port_of_a_url_are_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_aws_itself_is_named() -> None:
    assert Settings(store_url="s3://bucket").store_address == "AWS S3 bucket bucket"
