"""A stream in windows: the same test, in memory that does not grow, across restarts."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.stats import binom

import coldpress
from coldpress.drift import DriftMonitor, detect_drift
from coldpress.errors import ColdpressError, FingerprintMismatch, StoreError


def test_windows_close_when_they_are_full_however_the_rows_come(cloud):
    rows = cloud(1000, 1)
    whole = coldpress.DriftMonitor(cloud(500, 0), window=150)
    parts = DriftMonitor(cloud(500, 0), window=150)
    found = whole.update(rows)
    assert [one.name for one in found] == ["0", "150", "300", "450", "600", "750"]
    for start in range(0, 1000, 37):
        parts.update(rows[start : start + 37])
    assert [one.verdict for one in parts.history] == [one.verdict for one in found]
    assert parts.report() == whole.report()
    assert (whole.report().pending, whole.report().windows) == (100, 6)
    assert whole.report().windows_between_false_alarms == 1000


def test_a_change_is_seen_in_the_window_where_it_happens(cloud):
    monitor = DriftMonitor(cloud(2000, 0), window=200)
    assert monitor.report().p_value is None
    assert [one.verdict.alarm for one in monitor.update(cloud(1000, 1))] == [False] * 5
    (changed,) = monitor.update(cloud(200, 2, moved=60))
    assert changed.verdict.alarm
    report = monitor.report()
    assert (report.alarm, report.alarms, report.statistic) == (True, 1, changed.verdict.statistic)
    assert report.statistic > report.threshold
    monitor.update(cloud(200, 3))
    assert not monitor.report().alarm


def test_each_window_has_the_stated_rate_of_false_alarms(cloud):
    alarms = 0
    for seed in range(40):
        monitor = DriftMonitor(cloud(300, 1000 + seed), window=50, level=0.05, seed=seed)
        alarms += monitor.update(cloud(50, 2000 + seed))[0].verdict.alarm
    assert alarms <= binom.ppf(0.999, 40, 0.05)


def test_a_saved_monitor_goes_on_where_it_was(cloud, tmp_path, make_store):
    reference = make_store(cloud(800, 0))
    monitor = DriftMonitor(reference, window=100, level=0.01, seed=3)
    monitor.update(cloud(350, 1))
    monitor.save(tmp_path / "kept")
    again = DriftMonitor.open(tmp_path / "kept")
    assert again.report() == monitor.report()
    assert again.history == monitor.history
    assert again.update(cloud(100, 2))[0].verdict == monitor.update(cloud(100, 2))[0].verdict
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"monitor.safetensors", "monitor.json"}
    with pytest.raises(FingerprintMismatch):
        again.update(make_store(cloud(100, 1), space="other"))
    assert len(again.update(make_store(cloud(250, 1), dtype="float16"))) == 3


def test_memory_does_not_grow_with_the_stream(cloud):
    def peak(blocks):
        monitor = DriftMonitor(cloud(500, 0), window=2000)
        monitor.update(cloud(2000, 1))
        tracemalloc.start()
        for seed in range(blocks):
            monitor.update(cloud(1000, seed))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(40) < 1.05 * peak(4)


def test_memory_does_not_grow_with_the_store(make_store, cloud):
    def peak(rows):
        new = make_store(np.tile(cloud(10_000, 1), (rows // 10_000, 1)), kind=["a", "b"] * (rows // 2))
        tracemalloc.start()
        detect_drift(reference, new)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    reference = make_store(cloud(5000, 0))
    peak(20_000)  # what is loaded the first time
    assert peak(100_000) < 1.1 * peak(20_000)


def test_what_cannot_be_monitored_is_refused(cloud, tmp_path):
    monitor = DriftMonitor(cloud(100, 0), window=20)
    for message, call in (
        ("a window of 5 rows is too small", lambda: DriftMonitor(cloud(100, 0), window=5)),
        ("level is 2", lambda: DriftMonitor(cloud(100, 0), level=2)),
        ("the reference has 30 rows, expected at least 50", lambda: DriftMonitor(cloud(30, 0))),
        (r"shape \(24,\), expected \(N, 24\)", lambda: monitor.update(cloud(1, 0)[0])),
        (r"shape \(3, 5\), expected \(N, 24\)", lambda: monitor.update(np.zeros((3, 5)))),
        ("vector 1 holds NaN or Inf", lambda: monitor.update(np.array([[0.0] * 24, [np.inf] * 24]))),
    ):
        with pytest.raises(ColdpressError, match=message):
            call()
    assert monitor.report().pending == 0
    with pytest.raises(StoreError, match="is not a drift monitor"):
        DriftMonitor.open(tmp_path)
    monitor.save(tmp_path)
    (tmp_path / "monitor.safetensors").write_bytes(b"damaged")
    with pytest.raises(StoreError, match="is damaged or not a monitor"):
        DriftMonitor.open(tmp_path)
