"""A step of Celery's consumer that says that its loop turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from celery import bootsteps

from histill.distill.vitals import BEAT_S

if TYPE_CHECKING:
    from celery import Celery

    from histill.distill.vitals import Vitals


def beat_for(app: Celery, vitals: Vitals) -> None:
    """Has the worker of ``app`` give signs of life, from the loop that takes its messages."""

    class Pulse(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
        """Begins after the consumer takes messages, and anew after each lost connection."""

        requires: ClassVar = ("celery.worker.consumer.tasks:Tasks",)

        def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
            """The consumer is connected, and about to turn."""
            del consumer
            vitals.turned()
            # Celery cancels it together with the connection's own timers.
            hub.timer.call_repeatedly(BEAT_S, vitals.turned)

        def start(self, parent: Any) -> None:
            """Nothing yet: the loop begins later."""

        def stop(self, parent: Any) -> None:
            """The connection is lost, or the worker stops."""
            del parent
            vitals.disconnected()

    steps: Any = app.steps
    steps["consumer"].add(Pulse)
