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
    assert value not in caught.value.message


def test_no_address_shows_credentials() -> None:
    settings = Settings.model_validate(
        {
            "broker_url": "rediss://user:secret@redis.example:6380/2?password=secret",
            "s3_endpoint_url": "https://key:secret@s3.example:9000",
            "store_url": "s3://bucket",
        }
    )
    assert settings.broker_address == "rediss://redis.example:6380/2"
    assert settings.store_address == "https://s3.example:9000 bucket bucket"
    assert "secret" not in settings.broker_address + settings.store_address
    assert "user:secret" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@ss@host/0", "redis://host/0"),
        ("redis://host:1/0", "redis://host:1/0"),
        ("AWS S3", "AWS S3"),
    ],
)
def test_credentials_are_cut_out_of_a_url(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
