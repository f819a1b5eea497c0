"""drain: take workers out, in order, and let them in again."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.jobs import Json
from medgemma_cli.terminal import folded
from medgemma_tasks.errors import BrokerUnreachable, InvalidRequest

if TYPE_CHECKING:
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.models import WorkerHealth

LOOK = 0.5
"""Seconds between two looks at how far they are."""

STILL_HOLD = 1
"""The exit status where they hold something at the end of --wait."""


def drain(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Workers, as `queue` names them."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="All of this host.", show_default=False)] = None,
    here: Annotated[
        bool, typer.Option("--here", help="All of the host that this runs on.")
    ] = False,
    everywhere: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Let them take messages again instead.")
    ] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Wait until they hold nothing; exit status 1 where that takes longer.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take workers out: they take no further message, finish what they have, and then stay idle.

    Jobs that wait go to the others. It lasts until they are stopped, or until --undo.
    """
    from medgemma_tasks import workers
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.orders import order
    from medgemma_tasks.settings import load_settings

    if sum((bool(names), host is not None, here, everywhere)) != 1:
        raise typer.BadParameter("name workers, or give one of --host, --here and --all")
    if undo and wait is not None:
        raise typer.BadParameter("--wait is for what is drained, and --undo drains nothing")
    live = LiveState(load_settings())
    with live.connected() as redis:
        team = [worker for worker in workers.workers(redis) if worker.state.lives]
        meant = _meant(team, names, socket.gethostname() if here else host)
        for worker in meant:
            order(redis, worker, out=not undo)
    if not as_json:
        for worker in meant:
            print(f"{worker.name} {'takes messages again' if undo else 'takes no further message'}")
        if not meant:
            print("There is no such worker.")
        for model in [] if undo else _left_alone(team, meant):
            word = f"No other worker of {model} is ready: its jobs wait."
            print(folded(word, sys.stderr), file=sys.stderr)
        if meant and not undo and sys.stderr.isatty():
            word = "It lasts until they are stopped; the same with --undo lets them in again."
            print(folded(word, sys.stderr), file=sys.stderr)
    holding = _wait(live, meant, wait, None if as_json else print) if wait is not None else []
    if as_json:
        told = {"undone" if undo else "drained": [worker.name for worker in meant]}
        print(json.dumps({**told, **({"holding": holding} if wait is not None else {})}))
    elif holding:
        print(
            f"After {wait:g} s these still hold something: {', '.join(holding)}.", file=sys.stderr
        )
    if holding:
        raise typer.Exit(STILL_HOLD)


def _meant(
    team: Sequence[WorkerHealth], names: Sequence[str] | None, host: str | None
) -> list[WorkerHealth]:
    """The workers that are meant. Raises InvalidRequest for a name that is none, and for one that
    takes no orders."""
    if names:
        unknown = sorted(set(names) - {worker.name for worker in team})
        if unknown:
            there = ", ".join(worker.name for worker in team) or "none at all"
            raise InvalidRequest(f"There is no worker {unknown[0]}. There is: {there}.")
        meant = [worker for worker in team if worker.name in names]
    else:
        meant = [worker for worker in team if host in (None, worker.host)]
    older = [worker.name for worker in meant if not worker.post]
    if older:
        raise InvalidRequest(
            f"{older[0]} is of an older version, which takes no orders. Stop it instead: it ends "
            "its job within MEDGEMMA_SHUTDOWN_GRACE, or gives it back."
        )
    return meant


def _left_alone(team: Sequence[WorkerHealth], out: Sequence[WorkerHealth]) -> list[str]:
    """The models of which no worker is left that serves."""
    serving = {worker.model for worker in team if worker.state.serves and worker not in out}
    return sorted({worker.model for worker in out} - serving)


def _wait(
    live: LiveState,
    meant: Sequence[WorkerHealth],
    seconds: float,
    tell: Callable[[str], None] | None,
) -> list[str]:
    """The names of those that hold something after so many seconds, or once there are none."""
    from medgemma_tasks import workers

    left, end = list(meant), time.monotonic() + seconds
    heard = dict.fromkeys(meant, time.monotonic())
    while left:
        try:
            with live.connected() as redis:
                for worker in list(left):
                    now = workers.worker(redis, worker.model, worker.name)
                    if now is not None:
                        heard[worker] = time.monotonic()
                    silent = time.monotonic() - heard[worker]
                    # Redis may have lost its word, and until it is connected anew it says none.
                    # What a dead one held is another's after so long.
                    gone = now is None and silent > live.settings.visibility_timeout
                    if gone or (now is not None and _is_done(now, worker)):
                        left.remove(worker)
                        if tell is not None:
                            tell(f"{worker.name} holds nothing")
        except BrokerUnreachable as error:
            print(f"{error.message} Asked again.", file=sys.stderr)
            heard = dict.fromkeys(meant, time.monotonic())  # nobody can have said anything
        if not left or time.monotonic() >= end:
            break
        time.sleep(min(LOOK, max(end - time.monotonic(), 0.0)))
    return [worker.name for worker in left]


def _is_done(now: WorkerHealth, ordered: WorkerHealth) -> bool:
    """Whether one that was told to hold nothing does. Of a worker that was started in its place the
    same is asked, unless that has another supervisor."""
    return now.post != ordered.post or not now.state.lives or now.drained
