"""A seeded generator of what anybody who reaches Redis could put on a queue.

Each message says "canary" wherever it can, so that a log that quotes it is found out. Some name
real jobs: those must be none the worse for it.
"""

from __future__ import annotations

import base64
import json
import pickle
import random
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgemma_tasks.queue import TASK, queue_names

INTERACTIVE, BATCH = queue_names("phantom")
LISTS = (INTERACTIVE, BATCH, f"{INTERACTIVE}\x06\x163", f"{BATCH}\x06\x169")
"""The lists that a worker of the phantom reads; the last two are those of other priorities."""

TRICKS = (
    "../../canary",
    "..%2f..%2fcanary",
    "/etc/canary",
    "canary\x00",
    "ｃａｎａｒｙ" * 6,
    "0" * 31,
    "0" * 33,
    "0" * 32 + "\n",
    "A" * 32,
    "٠" * 32,  # digits, but not those of the alphabet
    "",
)

DROPPED, UNKNOWN, RIGHT = "dropped", "unknown", "right"
"""What becomes of a message: no shard at all; a shard whose one job nobody submitted; a shard."""


@dataclass(frozen=True)
class Bad:
    """A message, the list it goes to, and what is to become of it."""

    content: bytes
    key: str
    fate: str

    @property
    def queue(self) -> str:
        return self.key.partition("\x06")[0]


class Generator:
    """Makes bad messages.

    kept, lost: ids of jobs that somebody submitted; of the lost ones no shard names any. trap: a
    folder that comes to be where a pickle is loaded.
    """

    def __init__(self, seed: int, kept: Sequence[str], lost: Sequence[str], trap: Path) -> None:
        self._random = random.Random(seed)
        self._kept = kept
        self._real = (*kept, *lost)
        self._trap = trap
        self._ways: list[Callable[[], tuple[bytes, str]]] = [
            getattr(self, name) for name in sorted(vars(Generator)) if name.startswith("way_")
        ]

    def make(self, number: int) -> list[Bad]:
        """So many messages, every way of being bad in turn, and for each list one of 10 MB."""
        made = [Bad(b"canary" * 1_700_000, key, DROPPED) for key in LISTS]
        for k in range(number - len(made)):
            content, fate = self._ways[k % len(self._ways)]()
            made.append(Bad(content, self._random.choice(LISTS), fate))
        self._random.shuffle(made)
        return made

    # --- no message at all ---------------------------------------------------------------------

    def way_noise(self) -> tuple[bytes, str]:
        return b"canary" + self._random.randbytes(self._random.randrange(400)), DROPPED

    def way_invalid_utf8(self) -> tuple[bytes, str]:
        return self._shard().replace(b'"lang"', b'"\xff\xfe\xed\xa0\x80canary"'), DROPPED

    def way_nul_bytes(self) -> tuple[bytes, str]:
        return b"\x00" * self._random.randrange(1, 99) + b"canary", DROPPED

    def way_cut_off(self) -> tuple[bytes, str]:
        whole = self._shard()
        return whole[: self._random.randrange(1, len(whole) - 1)], DROPPED

    def way_other_json(self) -> tuple[bytes, str]:
        kinds: list[Any] = [[], [1], {}, "canary", 1, None, True, {"canary": {}}, [["canary"]]]
        return json.dumps(self._random.choice(kinds)).encode(), DROPPED

    def way_nesting(self) -> tuple[bytes, str]:
        depth = self._random.choice([500, 5_000, 30_000])
        return self._random.choice([b"[" * depth, b'{"canary":' * (depth // 10)]), DROPPED

    def way_nesting_in_the_body(self) -> tuple[bytes, str]:
        return message(b"[" * self._random.choice([500, 5_000, 30_000])), DROPPED

    def way_huge_number(self) -> tuple[bytes, str]:
        number = b"9" * self._random.choice([400, 5_000, 40_000])
        return message(b'[[{"schema":1,"tenant":"local","jobs":[%b]}],{},{}]' % number), DROPPED

    def way_too_large(self) -> tuple[bytes, str]:
        return self._shard() + b" " * self._random.choice([65_536, 100_000, 300_000]), DROPPED

    # --- a message that is no task of ours -----------------------------------------------------

    def way_no_part(self) -> tuple[bytes, str]:
        part = self._random.choice([b'"headers"', b'"body"', b'"id"', b'"task"'])
        return self._shard().replace(part, b'"canary"', 1), DROPPED

    def way_unknown_task(self) -> tuple[bytes, str]:
        names: list[Any] = ["canary", "medgemma.explain2", "celery.backend_cleanup", ["canary"], 1]
        return self._shard(task=self._random.choice(names)), DROPPED

    def way_task_id(self) -> tuple[bytes, str]:
        return self._shard(id=self._random.choice(["canary", "../canary", "", 1, None])), DROPPED

    def way_pickle(self) -> tuple[bytes, str]:
        content = pickle.dumps(_Trap(self._trap))
        return message(content, kind="application/x-python-serialize"), DROPPED

    def way_yaml(self) -> tuple[bytes, str]:
        content = f"!!python/object/apply:os.mkdir ['{self._trap}']".encode()
        return message(content, kind="application/x-yaml"), DROPPED

    def way_compressed(self) -> tuple[bytes, str]:
        bomb = zlib.compress(b"canary" * 2_000_000)
        return message(bomb, compression="application/x-gzip"), DROPPED

    def way_body(self) -> tuple[bytes, str]:
        right = {"schema": 1, "tenant": "local", "jobs": [self._job()]}
        bodies: list[Any] = [
            "canary",
            [],
            [[], {}, {}],
            [[right], {}],
            [[right, right], {}, {}],
            [[right], {"canary": 1}, {}],
            [right, {}, {}],
            [{"canary": right}, {}, {}],
            [["canary"], {}, {}],
            [[None], {}, {}],
        ]
        return message(json.dumps(self._random.choice(bodies)).encode()), DROPPED

    # --- a shard that is none ------------------------------------------------------------------

    def way_other_schema(self) -> tuple[bytes, str]:
        return self._shard(schema=self._random.choice([0, 2, 99, -1, "1", None, [1]])), DROPPED

    def way_unknown_field(self) -> tuple[bytes, str]:
        return self._shard(prompt="canary"), DROPPED

    def way_tenant(self) -> tuple[bytes, str]:
        tenants: list[Any] = [*TRICKS[:5], "Canary", "", "x" * 64, "local/jobs", None, ["local"]]
        return self._shard(tenant=self._random.choice(tenants)), DROPPED

    def way_job_id(self) -> tuple[bytes, str]:
        return self._shard(jobs=[self._random.choice(TRICKS)]), DROPPED

    def way_good_and_bad_ids(self) -> tuple[bytes, str]:
        jobs = [self._job(), self._random.choice(TRICKS), self._job()]
        return self._shard(jobs=jobs), DROPPED

    def way_number_of_jobs(self) -> tuple[bytes, str]:
        jobs: list[Any] = [[], [self._job()] * 257, self._job(), None, {"canary": 1}]
        return self._shard(jobs=self._random.choice(jobs)), DROPPED

    # --- a shard, with whatever else -----------------------------------------------------------

    def way_unknown_job(self) -> tuple[bytes, str]:
        return self._shard(jobs=[self._random.randbytes(16).hex()]), UNKNOWN

    def way_another_tenants_job(self) -> tuple[bytes, str]:
        return self._shard(jobs=[self._job()], tenant="somebody-else"), UNKNOWN

    def way_headers(self) -> tuple[bytes, str]:
        headers: list[dict[str, Any]] = [
            {"timelimit": ["canary", "canary"]},
            {"timelimit": [0, 0]},
            {"timelimit": [1e308, -1]},
            {"timelimit": None},
            {"eta": "canary"},
            {"eta": "9999-12-31T23:59:59+99:99"},
            {"expires": "0001-01-01T00:00:00"},
            {"expires": -1},
            {"retries": 10**30},
            {"retries": "canary"},
            {"lang": "canary", "shadow": "canary", "argsrepr": "canary" * 1000},
            {"compression": "canary"},
            {"group": "canary", "root_id": ["canary"], "parent_id": {"canary": 1}},
            {"stamped_headers": ["canary"], "stamps": {"canary": "canary"}},
        ]
        return self._shard(
            jobs=[self._random.choice(self._kept)], **self._random.choice(headers)
        ), RIGHT

    def way_properties(self) -> tuple[bytes, str]:
        content = json.loads(self._shard(jobs=[self._random.choice(self._kept)]))
        properties: list[Any] = [
            {"delivery_tag": "canary"},
            {"delivery_info": "canary", "delivery_tag": 1, "reply_to": "canary", "priority": "x"},
            {"delivery_info": {"exchange": "canary", "routing_key": "canary"}},
            None,
            [],
        ]
        content["properties"] = self._random.choice(properties)
        return json.dumps(content).encode(), RIGHT

    # --- helpers -------------------------------------------------------------------------------

    def _job(self) -> str:
        return self._random.choice(self._real)

    def _shard(self, **changes: Any) -> bytes:
        shard = {"schema": 1, "tenant": "local", "jobs": [self._job()]}
        headers: dict[str, Any] = {}
        for name, value in changes.items():
            (shard if name in (*shard, "prompt") else headers)[name] = value
        return message(json.dumps([[shard], {}, {}]).encode(), **headers)


def malformed(item: bytes, number: int) -> bytes:
    """A real job's own message, spoilt in one of several ways."""
    found = json.loads(item)
    body = json.loads(base64.b64decode(found["body"]))
    shard = body[0][0]
    match number % 6:
        case 0:
            shard["schema"] = 2
        case 1:
            found["headers"]["task"] = "medgemma.canary"
        case 2:
            shard["jobs"].append("../canary")
        case 3:
            shard["tenant"] = "Local"
        case 4:
            body[1]["canary"] = 1
        case 5:
            return item + b" " * 70_000
    found["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    return json.dumps(found).encode()


def message(body: bytes, kind: str = "application/json", **headers: object) -> bytes:
    """A message as kombu puts it on a list."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": kind,
            "headers": {"lang": "py", "task": TASK, "id": str(uuid.uuid4()), **headers},
            "properties": {
                "correlation_id": "1",
                "delivery_mode": 2,
                "delivery_info": {"exchange": INTERACTIVE, "routing_key": INTERACTIVE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()


class _Trap:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self._path,)
