"""Hearing which jobs end, for as long as somebody wants to know."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState

log = logging.getLogger(__name__)

LISTEN = 0.5
"""Seconds between two looks at whether it is still wanted."""

PAUSE = 2.0
"""Seconds before it is tried again."""


def listen(
    live: LiveState,
    wanted: Callable[[], bool],
    hears: Callable[[bool], None],
    ended: Callable[[Sequence[tuple[str, str]]], None],
    *,
    every_tenant: bool = False,
) -> None:
    """Listen in a thread of its own, until ``wanted`` says no; it is not asked again then.

    hears: told whether it is heard from here on. ended: told of jobs that ended, each as a tenant
    and an id. Never raises: whatever goes wrong, it is tried again.
    """
    while True:
        try:
            with live.hearing(every_tenant=every_tenant) as bells:
                hears(True)
                while wanted():
                    ended(bells.rung_for(LISTEN))
                return
        except BrokerUnreachable as error:
            log.warning("it is not heard when jobs end (%s)", error.code)
        except Exception as error:  # noqa: BLE001 - else nothing would be heard ever after
            # Its class alone: its text may quote an address with its password.
            log.error("it is not heard when jobs end: a defect (%s)", type(error).__name__)
        finally:
            hears(False)
        for _ in range(round(PAUSE / LISTEN)):
            time.sleep(LISTEN)
            if not wanted():
                return
