"""Whether new data are still what the reference was: tests, measures and a monitor over stores and streams."""

from __future__ import annotations

from coldpress.drift.detect import Drift, detect_drift
from coldpress.drift.driving import Driving, Item
from coldpress.drift.effects import Effects
from coldpress.drift.mmd import Verdict
from coldpress.drift.monitor import DriftMonitor, MonitorReport
from coldpress.drift.reference import Reference
from coldpress.drift.refit import Refit, refit_head
from coldpress.drift.values import Overrepresented
from coldpress.drift.windows import Window

__all__ = [
    "Drift",
    "DriftMonitor",
    "Driving",
    "Effects",
    "Item",
    "MonitorReport",
    "Overrepresented",
    "Reference",
    "Refit",
    "Verdict",
    "Window",
    "detect_drift",
    "refit_head",
]
