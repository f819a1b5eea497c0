from __future__ import annotations

import ssl

import pytest

from medgemma_tasks.errors import InvalidSettings
from medgemma_tasks.queue import make_app
from medgemma_tasks.settings import Settings, load_settings
from medgemma_tasks.store import Store
from medgemma_tasks.transport import is_loopback, names_tls_options, travels_plain


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"]
)
def test_a_loopback_host_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "redis",
        "localhost.example",
        "127.0.0.1.example",
        "10.0.0.1",
        "0.0.0.0",
        "::",
        "::ffff:10.0.0.1",
        "2130706433",
        "127.1",
    ],
)
def test_any_other_host_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("redis://:p@127.0.0.1:1/0", False),
        ("redis://[::1]:1/0", False),
        ("http://localhost:9000", False),
        ("rediss://redis.example", False),
        ("https://s3.example", False),
        ("redis://redis.example", True),
        ("redis://127.0.0.1@redis.example", True),
        ("http://127.0.0.1:p@s3.example", True),
    ],
)
def test_what_leaves_the_machine_without_tls_is_plain(url: str, plain: bool) -> None:
    assert travels_plain(url) is plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEDGEMMA_BROKER_URL", "redis://u:hunter2@redis.example:6379/0"),
        ("MEDGEMMA_S3_ENDPOINT_URL", "http://u:hunter2@s3.example:9000"),
    ],
)
def test_plain_connections_off_the_machine_need_a_word_of_their_own(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert name in caught.value.message
    assert "MEDGEMMA_ALLOW_PLAIN=true" in caught.value.message
    assert "hunter2" not in caught.value.message
    monkeypatch.setenv("MEDGEMMA_ALLOW_PLAIN", "true")
    assert load_settings().allow_plain


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_of_awss_own_settings_is_looked_at_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://s3.example")
    with pytest.raises(InvalidSettings, match="in the clear"):
        Store(settings).get("x")


@pytest.mark.parametrize(
    "option",
    [
        "ssl_cert_reqs=none",
        "ssl_cert_reqs=CERT_NONE",
        "ssl_cert_reqs=optional",
        "ssl_check_hostname=false",
        "ssl_check_hostname=0",
        "ssl_ciphers=NULL",
        "SSL_cert_reqs=none",
        "db=1&ssl%5Fcert_reqs=none",
    ],
)
def test_a_url_that_turns_the_verifying_off_is_refused(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    url = f"rediss://:hunter2@redis.example/0?{option}"
    assert names_tls_options(url)
    monkeypatch.setenv("MEDGEMMA_BROKER_URL", url)
    with pytest.raises(InvalidSettings, match="always verified") as caught:
        load_settings()
    assert "hunter2" not in caught.value.message


def test_a_second_server_behind_the_first_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """kombu would take it for one to go to when the first is away."""
    monkeypatch.setenv("MEDGEMMA_BROKER_URL", "redis://127.0.0.1:1/0;redis://redis.example/0")
    with pytest.raises(InvalidSettings, match="one URL"):
        load_settings()


def test_celery_is_told_to_verify() -> None:
    settings = Settings.model_validate({"broker_url": "rediss://redis.example/0"})
    told = make_app(settings).conf.broker_use_ssl
    assert told == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    assert make_app(Settings()).conf.broker_use_ssl is None


def test_a_file_of_authorities_that_is_none_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    for value in (f"{tmp_path}/canary.pem", __file__):
        monkeypatch.setenv("MEDGEMMA_CA_FILE", value)
        with pytest.raises(InvalidSettings, match="MEDGEMMA_CA_FILE: must be a file") as caught:
            load_settings()
        assert value not in caught.value.message
