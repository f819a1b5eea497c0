"""The queue: the Celery app, every setting of it with its reason, and how a job gets onto it.

Delivery is at least once. What makes a job's result single is the terminal mark in the store.
Celery is imported when an app is made, so that importing the client stays quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from medgemma_tasks.connection import Connected, unreachable
from medgemma_tasks.errors import QueueFull
from medgemma_tasks.layout import model_slug
from medgemma_tasks.models import JobId, Strict, Tenant
from medgemma_tasks.settings import Settings
from medgemma_tasks.tracing import headers

if TYPE_CHECKING:
    from celery import Celery

TASK = "medgemma.explain"
"""Name of the one task. Workers drop unknown names, so a new name keeps this one for a release."""


QUEUES = "medgemma.*"
"""What matches the names of all queues, of whatever model, and of nothing else in Redis."""


LARGEST_MESSAGE = 65_536
"""Bytes of a message as it lies on the list; a larger one is dropped unread. The largest shard has
256 ids of 36 bytes with their quotes: 9.2 kB, 12.3 kB in base64, and some 2 kB of headers."""


class Shard(Strict):
    """A message on the queue: ids of jobs of one model, which are answered together."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    tenant: Tenant
    jobs: tuple[JobId, ...] = Field(min_length=1, max_length=256)


def queue_names(model: str) -> tuple[str, str]:
    """The two queues of a model: interactive, which goes first, and batch."""
    slug = model_slug(model)
    return f"medgemma.{slug}.interactive", f"medgemma.{slug}.batch"


def make_app(settings: Settings) -> Celery:
    """The Celery app of one model's queues, for clients and workers alike."""
    from celery import Celery

    app = Celery("medgemma", set_as_current=False)
    app.conf.update(queue_settings(settings))
    return app


def queue_settings(settings: Settings) -> dict[str, Any]:
    """Every setting of Celery and of its Redis transport that differs from the default."""
    from kombu import Exchange, Queue

    # Each with an exchange of its own: on a shared one a message lands in both queues.
    queues = [Queue(name, Exchange(name), name) for name in queue_names(settings.model)]

    return {
        # --- what travels -----------------------------------------------------------------------
        # Anybody who can write to the queue could run code by a pickle.
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        # The store is the ledger: a result backend reads PENDING for unknown and expired ids alike.
        "task_ignore_result": True,
        "result_backend": None,
        # Interactive before batch, in strict order; round robin would alternate.
        "task_queues": queues,
        "task_default_queue": queue_names(settings.model)[0],
        "task_create_missing_queues": True,  # a client may publish for another model
        # --- the broker -------------------------------------------------------------------------
        "broker_url": settings.broker_url.get_secret_value(),
        # Without it kombu takes whatever certificate it is shown.
        "broker_use_ssl": settings.redis_tls or None,
        "broker_connection_timeout": settings.connect_timeout,
        "broker_connection_retry_on_startup": True,
        # For ever: a worker that stops reconnecting is deaf, and nobody is told.
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "queue_order_strategy": "priority",
            # An unacknowledged message comes back after this; the lease keeps a living worker's.
            "visibility_timeout": settings.visibility_timeout,
            # Look often: with the defaults a dead worker's job came back after 83 s, not 8. Not
            # oftener than need be, as it is the dearest of what an idle worker does.
            "unacked_restore_interval": max(1, settings.visibility_timeout // 20),
            "unacked_restore_throttle": 1,
            # Without them a command waits for ever on a connection that died silently.
            "socket_connect_timeout": settings.connect_timeout,
            "socket_timeout": max(5.0, settings.connect_timeout),
            "socket_keepalive": True,
        },
        # One more try; LiveState.ping has found an unreachable broker before.
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0.2},
        # --- when a message is done -------------------------------------------------------------
        # Acknowledged after the commit, not before the work.
        "task_acks_late": True,
        # A killed child's message goes back, in seconds.
        "task_reject_on_worker_lost": True,
        # The task catches whatever fails; what still escapes would come back for ever.
        "task_acks_on_failure": True,
        # A hung child is killed at the hard limit and its job tried again: the attempt counter
        # bounds that, and acknowledging would lose the job without a mark.
        "task_acks_on_timeout": False,
        # For one job; the worker's intake multiplies them for a shard.
        "task_soft_time_limit": settings.soft_time_limit,
        "task_time_limit": settings.hard_time_limit,
        # True ended the worker when Redis was away for a moment.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # --- the worker -------------------------------------------------------------------------
        # One child holds the model; the parent stays able to answer, renew and replace.
        "worker_pool": "prefork",
        "worker_concurrency": 1,
        # Take no message that others could start on.
        "worker_prefetch_multiplier": 1,
        # Far above the load time: at 4 s an 8 s load was killed and started again for ever.
        "worker_proc_alive_timeout": settings.load_timeout,
        # With REMAP_SIGTERM=SIGQUIT a worker told to stop waits for its job, at most so long, then
        # gives it back (see medgemma_worker.parent.shutdown: Celery alone would always wait to
        # the end).
        "worker_soft_shutdown_timeout": settings.shutdown_grace,
        # Redirected prints would put whatever a library prints into the log under a task's name.
        "worker_redirect_stdouts": False,
        # No gossip about tasks: nothing reads it, and it costs a publish for each.
        "worker_send_task_events": False,
        "enable_utc": True,
    }


def check_room(connection: Connected, model: str, *, batch: bool = False) -> int:
    """How many more messages may wait on a model's queue. Raises QueueFull where none may, and
    BrokerUnreachable."""
    queue, limit = queue_names(model)[batch], connection.settings.max_queued
    with connection.connected() as redis:
        waiting = redis.llen(queue)
    if waiting >= limit:
        raise QueueFull(
            f"{waiting} messages wait for {model}, and {limit} may (MEDGEMMA_MAX_QUEUED). Submit "
            "later, or start more workers.",
            waiting=waiting,
            limit=limit,
        )
    return limit - waiting


def publish(
    app: Celery,
    settings: Settings,
    model: str,
    job_ids: Sequence[str],
    *,
    tenant: str | None = None,
    batch: bool = False,
) -> None:
    """Put ONE message for a shard of jobs on a model's queue. Ids only: no text, no image.

    Raises BrokerUnreachable when the broker cannot take it.
    """
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    shard = Shard(schema=1, tenant=tenant or settings.tenant, jobs=tuple(job_ids))
    interactive, bulk = queue_names(model)
    try:
        app.send_task(
            TASK,
            args=(shard.model_dump(mode="json", by_alias=True),),
            queue=bulk if batch else interactive,
            headers=headers() or None,
            # No time limit: the worker sets its own, whatever the client's settings say.
        )
    except (OperationalError, RedisError, OSError) as error:
        raise unreachable(settings, error) from None
