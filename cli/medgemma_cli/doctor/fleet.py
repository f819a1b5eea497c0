"""What workers serve, and whether one is there that takes a job now."""

from __future__ import annotations

from medgemma_cli.doctor.finding import Part, Told, failed, not_applicable, ok, warning
from medgemma_tasks import workers
from medgemma_tasks.connection import connect, unreachable
from medgemma_tasks.errors import ModelNotServed
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store


class Fleet:
    """The checks of the service as a whole."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def parts(self) -> tuple[Part, Part]:
        """Two, since one asks the store and the other Redis."""
        return ("workers", [("models", self.models)]), ("workers", [("ready", self.ready)])

    def models(self) -> Told:
        """Whether MEDGEMMA_MODEL is among what workers ever published."""
        name = self._settings.model
        ledger = Ledger(Store(self._settings), LiveState(self._settings))
        names = sorted(ledger.served_models())
        if not names:
            return warning(
                "No worker has ever said what it serves: nothing can be submitted yet.",
                "Start one: `medgemma-explainer worker`.",
            )
        if name not in names:
            return failed(
                f"Workers serve {', '.join(names)}, and not {name} ({ModelNotServed.code}).",
                "Set MEDGEMMA_MODEL to one of them, or start a worker with this one.",
            )
        served = ledger.served_model(name)
        revision = "" if served is None else f" at revision {served.revision[:20]}"
        others = ", ".join(other for other in names if other != name)
        also = f"; also {others}" if others else ""
        return ok(f"{name}{revision}{also}.")

    def ready(self) -> Told:
        """Whether a worker of MEDGEMMA_MODEL would take a job now."""
        from redis.exceptions import NoPermissionError, RedisError

        redis = connect(self._settings)
        try:
            team = [w for w in workers.workers(redis) if w.model == self._settings.model]
        except NoPermissionError:
            return not_applicable("This user may not see the workers; a client's may not.")
        except RedisError as error:
            raise unreachable(self._settings, error) from None
        finally:
            redis.close()
        states = [worker.state.value for worker in team]
        told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        if any(worker.state.serves for worker in team):
            return ok(f"Of {self._settings.model}: {told}.")
        return warning(
            f"No worker of {self._settings.model} is ready: {told or 'there is none'}.",
            "Jobs wait until one is. `medgemma-explainer queue` says more; a worker's log, why it "
            "does not load.",
        )
