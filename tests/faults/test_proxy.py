"""What the proxies do to a real Redis and a real S3, before anything is tested with them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults.proxy import Proxy
from tests.faults.s3_proxy import S3Proxy
from tests.service.harness import until

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedRedis, EmbeddedS3

SOON = 10.0


@pytest.fixture
def redis_proxy(redis_server: EmbeddedRedis) -> Iterator[Proxy]:
    assert redis_server.port is not None
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def connection(redis_server: EmbeddedRedis, redis_proxy: Proxy) -> Iterator[redis.Redis]:
    """A connection through the proxy that tries nothing twice."""
    url = redis_server.url.replace(f":{redis_server.port}/", f":{redis_proxy.port}/")
    once = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(url, socket_timeout=2.0, retry=once) as client:
        yield client


def s3_client(server: EmbeddedS3, port: int, read_timeout: float = 3.0) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=1,
            read_timeout=read_timeout,
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            proxies={},
        ),
    )


@pytest.fixture
def straight(s3_server: EmbeddedS3) -> Any:
    """A client that goes round the proxy."""
    assert s3_server.port is not None
    return s3_client(s3_server, s3_server.port)


@pytest.fixture
def s3_proxy(s3_server: EmbeddedS3, exists: Callable[[str], bool]) -> Iterator[S3Proxy]:
    assert s3_server.port is not None
    with S3Proxy(s3_server.port, exists) as proxy:
        yield proxy


@pytest.fixture
def exists(straight: Any) -> Callable[[str], bool]:
    def look(path: str) -> bool:
        bucket, _, key = path.lstrip("/").partition("/")
        try:
            straight.head_object(Bucket=bucket, Key=key)
        except ClientError:
            return False
        return True

    return look


@pytest.fixture
def s3(s3_server: EmbeddedS3, s3_proxy: S3Proxy) -> Any:
    return s3_client(s3_server, s3_proxy.port)


def put(client: Any, key: str, body: bytes = b"body", **options: str) -> None:
    client.put_object(Bucket="medgemma", Key=key, Body=body, **options)


def get(client: Any, key: str) -> bytes:
    content: bytes = client.get_object(Bucket="medgemma", Key=key)["Body"].read()
    return content


def test_redis_answers_through_the_proxy(connection: redis.Redis) -> None:
    connection.set("proxied", "x" * 300_000)
    assert len(connection.get("proxied") or b"") == 300_000


def test_a_reset_is_seen_as_one_and_the_next_connection_works(
    connection: redis.Redis, redis_proxy: Proxy
) -> None:
    connection.ping()
    failures: list[Exception] = []

    def wait() -> None:
        try:
            connection.blpop(["nothing comes"], 30)
        except redis.RedisError as error:
            failures.append(error)

    connection.connection_pool.connection_kwargs["socket_timeout"] = 30
    connection.connection_pool.disconnect()
    waiter = threading.Thread(target=wait)
    waiter.start()
    until(lambda: redis_proxy.open, SOON)
    time.sleep(0.1)
    assert redis_proxy.reset() >= 1
    waiter.join(SOON)
    assert not waiter.is_alive()
    assert "reset" in str(failures[0]).lower()
    assert redis_proxy.open == 0
    assert connection.ping()


def test_a_refusing_proxy_has_no_door_until_it_is_restored(
    connection: redis.Redis, redis_proxy: Proxy
) -> None:
    connection.ping()
    redis_proxy.refuse()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            connection.ping()
    with pytest.raises(redis.ConnectionError, match="refused"):
        connection.ping()
    redis_proxy.restore()
    assert connection.ping()


def test_a_hanging_proxy_takes_connections_and_says_nothing(
    connection: redis.Redis, redis_proxy: Proxy
) -> None:
    connection.ping()
    redis_proxy.hang()
    for _ in range(2):  # the open connection, then a new one
        with pytest.raises(redis.TimeoutError):
            connection.set("hung", "1")
    redis_proxy.restore()
    until(lambda: redis_proxy.open == 0, SOON)
    assert connection.get("hung") is None  # nothing of a client that has gone arrives late


def test_a_server_that_is_down_breaks_the_connection(redis_proxy: Proxy) -> None:
    with Proxy(9) as proxy, redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(redis.ConnectionError):
            client.ping()
        until(lambda: proxy.open == 0, SOON)


def test_a_proxy_that_ended_leaves_no_thread_and_no_door(redis_server: EmbeddedRedis) -> None:
    assert redis_server.port is not None
    before = threading.active_count()
    with Proxy(redis_server.port) as proxy:
        url = redis_server.url.replace(f":{redis_server.port}/", f":{proxy.port}/")
        client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))
        client.ping()
    until(lambda: threading.active_count() <= before, SOON)
    with pytest.raises(redis.ConnectionError):
        client.ping()


def test_s3_takes_signed_requests_through_the_proxy(s3: Any, straight: Any) -> None:
    body = b"\0large" * 200_000
    put(s3, "proxy/a-large", body)
    put(s3, "proxy/b", b"")
    assert get(s3, "proxy/a-large") == body == get(straight, "proxy/a-large")
    assert s3.head_object(Bucket="medgemma", Key="proxy/a-large")["ContentLength"] == len(body)
    listed = s3.list_objects_v2(Bucket="medgemma", Prefix="proxy/")["Contents"]
    assert [item["Key"] for item in listed] == ["proxy/a-large", "proxy/b"]
    objects = [{"Key": "proxy/a-large"}, {"Key": "proxy/b"}]
    s3.delete_objects(Bucket="medgemma", Delete={"Objects": objects})
    put(s3, "proxy/c")
    s3.delete_object(Bucket="medgemma", Key="proxy/c")
    with pytest.raises(ClientError, match="NoSuchKey"):
        get(s3, "proxy/b")


def test_each_put_is_recorded_with_its_hash(s3: Any, s3_proxy: S3Proxy) -> None:
    put(s3, "proxy/recorded", b"one")
    put(s3, "proxy/recorded", b"two")
    recorded = [(entry.path, entry.sha256, entry.stored) for entry in s3_proxy.puts]
    assert recorded == [
        ("/medgemma/proxy/recorded", hashlib.sha256(body).hexdigest(), True)
        for body in (b"one", b"two")
    ]


def test_a_busy_store_answers_503_to_what_matches_alone(s3: Any, s3_proxy: S3Proxy) -> None:
    s3_proxy.busy(lambda method, path: method == "PUT" and path.endswith("/mark"))
    put(s3, "proxy/other")
    with pytest.raises(ClientError, match="SlowDown") as caught:
        put(s3, "proxy/mark")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    s3_proxy.restore()
    put(s3, "proxy/mark")
    assert [entry.path for entry in s3_proxy.puts] == [
        "/medgemma/proxy/other",
        "/medgemma/proxy/mark",
    ]


def test_a_slow_store_takes_its_time(s3_server: EmbeddedS3, s3_proxy: S3Proxy) -> None:
    s3_proxy.slow(0.5)
    start = time.monotonic()
    put(s3_client(s3_server, s3_proxy.port, read_timeout=30), "proxy/slow")
    assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize("fault", ["slow", "hang"])
def test_no_put_of_a_client_that_gave_up_arrives_late(
    s3: Any, s3_proxy: S3Proxy, straight: Any, fault: str
) -> None:
    if fault == "slow":
        s3_proxy.slow(30.0)
    else:
        s3_proxy.hang()
    with pytest.raises(HTTPClientError):
        put(s3, f"proxy/late-{fault}")
    s3.close()
    until(lambda: s3_proxy.open == 0, SOON)
    s3_proxy.restore()
    put(s3, "proxy/on-time")
    assert [entry.path for entry in s3_proxy.puts] == ["/medgemma/proxy/on-time"]
    with pytest.raises(ClientError, match="NoSuchKey"):
        get(straight, f"proxy/late-{fault}")


def test_a_request_under_way_to_the_store_can_be_reset(s3: Any, s3_proxy: S3Proxy) -> None:
    s3_proxy.slow(30.0)
    resets: list[int] = []

    def reset() -> None:
        until(lambda: s3_proxy.open, SOON)
        time.sleep(0.1)
        resets.append(s3_proxy.reset())

    breaker = threading.Thread(target=reset)
    breaker.start()
    with pytest.raises(ConnectionClosedError):
        put(s3, "proxy/reset")
    breaker.join()
    assert resets == [1]
    s3_proxy.restore()
    put(s3, "proxy/reset")


def test_of_two_conditional_puts_one_wins_before_a_server_that_enforces_none(
    s3: Any, straight: Any
) -> None:
    put(straight, "proxy/free", b"first", IfNoneMatch="*")
    put(straight, "proxy/free", b"second", IfNoneMatch="*")
    assert get(straight, "proxy/free") == b"second"
    outcomes: list[bytes | str] = []

    def write(body: bytes) -> None:
        try:
            put(s3, "proxy/once", body, IfNoneMatch="*")
            outcomes.append(body)
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    writers = [threading.Thread(target=write, args=(str(n).encode(),)) for n in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert outcomes.count("PreconditionFailed") == 5
    assert get(straight, "proxy/once") in outcomes
