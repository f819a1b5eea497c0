from __future__ import annotations

import threading
import time
from secrets import token_hex

import fakeredis
import pytest

from medgemma_tasks.errors import BrokerUnreachable, InvalidRequest
from medgemma_tasks.live import QUEUED_TTL, LiveState
from medgemma_tasks.models import Live, Stage
from medgemma_tasks.settings import Settings
from tests.parts import JOB, OTHER_JOB

RUNNING = Live(stage=Stage.GENERATING, progress=0.5, attempt=1)


def test_what_is_reported_is_read(live: LiveState) -> None:
    assert live.read(JOB) is None
    assert live.report(JOB, RUNNING) is False
    assert live.read(JOB) == RUNNING


def test_a_report_hears_that_the_job_was_cancelled(live: LiveState) -> None:
    live.cancel(JOB)
    assert live.cancelled(JOB)
    assert live.report(JOB, RUNNING) is True
    assert live.report(OTHER_JOB, RUNNING) is False


def test_of_several_jobs_those_that_were_cancelled_are_told(live: LiveState) -> None:
    assert live.which_cancelled([]) == []
    assert live.which_cancelled([JOB, OTHER_JOB]) == []
    live.cancel(OTHER_JOB)
    assert live.which_cancelled([JOB, OTHER_JOB]) == [OTHER_JOB]


def test_the_worker_that_holds_jobs_goes_on_holding_them_and_no_other_takes_them(
    live: LiveState,
) -> None:
    assert live.hold(JOB, "one", 0.2)
    live.hold_all([JOB, OTHER_JOB], "one", 60.0)
    assert not live.hold(OTHER_JOB, "two", 1.0)
    live.hold_all([JOB], "two", 60.0)
    time.sleep(0.3)
    assert live.hold(JOB, "one", 1.0)
    assert not live.hold(JOB, "two", 1.0)


def test_starts_are_counted_and_given_back(live: LiveState) -> None:
    assert [live.start_attempt(JOB, token) for token in "abc"] == [1, 2, 3]
    live.give_back_attempt(JOB, "b")
    assert live.attempts(JOB) == 2
    assert live.start_attempt(JOB, "d") == 3


def test_a_start_whose_answer_was_lost_and_that_is_told_again_counts_once(live: LiveState) -> None:
    """Else broken connections would make a healthy job one that kills its workers."""
    assert [live.start_attempt(JOB, "a") for _ in range(3)] == [1, 1, 1]


def test_a_lock_whose_answer_was_lost_is_not_waited_for(live: LiveState) -> None:
    lock = LiveState.lock

    def answer_lost(self: LiveState, name: str, token: str, seconds: int) -> bool:
        lock(self, name, token, seconds)
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiveState, "lock", answer_lost)
        with live.holding("x"):
            assert not lock(live, "x", "another", 1)
    assert lock(live, "x", "another", 1)


def test_a_queued_or_running_job_is_under_way(live: LiveState) -> None:
    assert not live.under_way(JOB)
    live.mark_queued([JOB])
    assert live.under_way(JOB)
    live.report(OTHER_JOB, RUNNING)
    assert live.under_way(OTHER_JOB)


def test_a_job_that_tells_nothing_more_is_soon_no_longer_under_way(
    live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    """Its worker may be gone and its message lost; what it reports again counts again."""
    live.report(JOB, RUNNING)
    ttl = redis_fake.ttl(f"medgemma:live:local:{JOB}")
    assert live.settings.hard_time_limit < ttl <= QUEUED_TTL
    long = LiveState(live.settings.model_copy(update={"hard_time_limit": 7200}), None, redis_fake)
    long.report(JOB, RUNNING)
    assert redis_fake.ttl(f"medgemma:live:local:{JOB}") > QUEUED_TTL


def test_one_at_a_time_holds_a_lock(live: LiveState) -> None:
    told: list[str] = []

    def hold() -> None:
        with live.holding("mark"):
            told.append("second")

    thread = threading.Thread(target=hold)
    with live.holding("mark"):
        thread.start()
        time.sleep(0.1)
        told.append("first")
    thread.join()
    assert told == ["first", "second"]
    assert live.lock("mark", "another", 30)


def test_forgetting_forgets_all_of_one_job(
    live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    for job in (JOB, OTHER_JOB):
        live.start_attempt(job, token_hex(4))
        live.cancel(job)
        live.mark_queued([job])
        live.report(job, RUNNING)
        redis_fake.set(f"medgemma:place:local:{job}", "3", ex=10)
    live.forget(JOB)
    assert not [key for key in redis_fake.keys("*") if JOB in key]
    assert live.cancelled(OTHER_JOB)


def test_every_key_has_our_prefix_and_a_time_to_live(
    live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    live.start_attempt(JOB, token_hex(4))
    live.cancel(JOB)
    live.mark_queued([JOB])
    live.report(JOB, RUNNING)
    live.lock("mark", "token", 30)
    keys = redis_fake.keys()
    assert len(keys) == 5
    for key in keys:
        assert key.startswith("medgemma:")
        assert redis_fake.ttl(key) > 0


def test_tenants_do_not_see_each_other(live: LiveState) -> None:
    live.cancel(JOB)
    assert not live.of_tenant("another").cancelled(JOB)


def test_a_bell_rings_for_its_own_job(live: LiveState) -> None:
    with live.listening(JOB) as bell:
        live.announce(OTHER_JOB)
        assert not bell.wait(0.05)
        live.announce(JOB)
        assert bell.wait(20.0)


def test_whoever_hears_of_all_jobs_passes_over_what_is_none_of_them(
    live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    """Whoever may ring for one tenant may say anything there, and gateways hear it."""
    with live.hearing() as own, live.hearing(every_tenant=True) as everyones:
        for name in ("", ":", "two:more", "x" * 100, "a\nb", JOB.upper()):
            redis_fake.publish(f"medgemma:done:local:{name}", "1")
        live.of_tenant("another").announce(OTHER_JOB)
        live.announce(JOB)
        assert own.rung(1.0) == [JOB]
        assert everyones.rung_for(1.0) == [("another", OTHER_JOB), ("local", JOB)]


def test_state_of_another_version_is_as_good_as_none(
    live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    redis_fake.set(f"medgemma:live:local:{JOB}", '{"stage": "dreaming"}')
    assert live.read(JOB) is None


def test_no_id_walks_out_of_its_key(live: LiveState) -> None:
    with pytest.raises(InvalidRequest):
        live.cancel("../" + JOB)


def test_an_unreachable_redis_is_named_without_credentials_and_soon() -> None:
    settings = Settings.model_validate({"broker_url": "redis://user:secret@127.0.0.1:9/0"})
    start = time.monotonic()
    with pytest.raises(BrokerUnreachable) as caught:
        LiveState(settings).ping()
    assert time.monotonic() - start < 20.0
    assert "127.0.0.1:9" in caught.value.message
    assert "secret" not in caught.value.message + repr(settings)


def test_a_message_of_another_form_deafens_nobody(live: LiveState) -> None:
    with live.hearing(every_tenant=True) as bells:
        with live.connected() as redis:
            redis.publish("medgemma:done:of:another:form", "1")
        live.announce(JOB)
        heard = [bell for _ in range(2) for bell in bells.rung_for(0.5)]
    assert ("local", JOB) in heard
