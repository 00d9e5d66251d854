"""The Python of README.md, as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import coldpress

README = Path(__file__).parents[1] / "README.md"


def test_its_python_runs_as_written(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    topics = {"tea": "A cup of {} tea with milk.", "rain": "It will rain {} hours tomorrow."}
    rows = [(topic, text.format(n)) for n in range(20) for topic, text in topics.items()]
    (tmp_path / "notes.txt").write_text("".join(f"{text}\n" for _, text in rows))
    labels = [f"notes.txt:{number},{topic}\n" for number, (topic, _) in enumerate(rows, 1)]
    (tmp_path / "topics.csv").write_text("key,label\n" + "".join(labels))
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(E.shape, len(store), keys.shape, probe)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("(2, 384) 40 (2, 10) ProbeResult(Head('logistic regression, C = ")
    assert len(shown.stdout) < 200  # no weights


def test_parts_go_by_their_own_names() -> None:
    assert {"probes", "drift", "assess"} <= set(dir(coldpress))
    assert coldpress.probes.__name__ == "coldpress.probes"
