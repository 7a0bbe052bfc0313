"""What npuc's calls took in this process, for whoever watches.

snapshot(): everything as JSON values. prometheus(): Prometheus' text format, to be served by what a program has for
that. opentelemetry(meter): record into a meter from now on. listen(function): have every event. reset(): forget.
"""

from __future__ import annotations

from npuc.runtime.metrics import BOUNDS, COUNTERS, SECONDS, Event, metrics

snapshot, prometheus, opentelemetry = metrics.snapshot, metrics.prometheus, metrics.opentelemetry
listen, reset = metrics.listen, metrics.reset

__all__ = ["BOUNDS", "COUNTERS", "SECONDS", "Event", "listen", "opentelemetry", "prometheus", "reset", "snapshot"]
