"""What this machine can do at most, and how close a model comes to it, stage by stage."""

from coldpress.bench.limits import Disk, Limits, Memory, Peak, measure_limits, measure_peaks
from coldpress.bench.modes import Mode, Report, measure_model
from coldpress.bench.photos import write_photos
from coldpress.bench.stages import Stage

__all__ = [
    "Disk",
    "Limits",
    "Memory",
    "Mode",
    "Peak",
    "Report",
    "Stage",
    "measure_limits",
    "measure_model",
    "measure_peaks",
    "write_photos",
]
