"""A picture of a page, made by the Chrome or Chromium of this machine.

The page is its own print version, so what is drawn, set and coloured is defined once. A browser is what plotly's own
export (kaleido) takes too, which draws figures alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from coldpress.errors import ColdpressError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
WIDTH = 1100
"""Of the page, in the pixels of CSS."""
SCALE, MOST = 2.0, 16_000
"""Pixels of the picture for one of CSS, which is 192 to the inch; and how many one side may have in Chrome."""
SPARE = 200
"""Rows that a window loses to a frame in some versions, which are not in the picture."""
TIMEOUT_S = 60
_MEASURE = """<style>details { display: none } a#save { display: none }</style><script>addEventListener("load", () => {
  document.documentElement.dataset.height = Math.ceil(document.querySelector("main").getBoundingClientRect().bottom);
});</script></head>"""


def find_browser() -> str:
    """The program; raises :class:`ColdpressError` where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and Path(_MAC).exists():
        found = _MAC
    if found is None:
        raise ColdpressError(
            "a picture is drawn by Chrome or Chromium, and neither is on the path: install one, or ask for .html"
        )
    return found


def photograph(page: str) -> bytes:
    """The whole page, light, as PNG: 2,200 pixels wide, less where it is very long. Its folded parts are left out.

    Raises
    ------
    ColdpressError
        There is no browser, or it fails.
    """
    from PIL import Image

    browser = find_browser()
    with TemporaryDirectory(prefix="coldpress-", ignore_cleanup_errors=True) as scratch:
        file, shot = Path(scratch) / "page.html", Path(scratch) / "page.png"
        file.write_text(page.replace("</head>", _MEASURE, 1), encoding="utf-8")
        drawn = _run(browser, scratch, file, "--dump-dom", f"--window-size={WIDTH},1000")
        height = re.search(r'<html[^>]* data-height="(\d+)"', drawn[:2000])
        if height is None:
            raise ColdpressError(f"{browser} has not drawn the page: ask for .html")
        rows = int(height[1])
        scale = min(SCALE, MOST / (rows + SPARE))
        _run(
            browser,
            scratch,
            file,
            f"--screenshot={shot}",
            f"--window-size={WIDTH},{rows + SPARE}",
            f"--force-device-scale-factor={scale:.3f}",
        )
        if not shot.is_file():
            raise ColdpressError(f"{browser} has made no picture of the page: ask for .html")
        with Image.open(shot) as taken:
            whole = taken.convert("RGB").crop((0, 0, taken.width, min(taken.height, round(rows * scale))))
        picture = BytesIO()
        whole.save(picture, "PNG", dpi=(96 * scale, 96 * scale))
    return picture.getvalue()


def _run(browser: str, scratch: str, file: Path, *options: str) -> str:
    unsandboxed = ["--no-sandbox"] if sys.platform == "linux" and os.geteuid() == 0 else []  # root may not have one
    command = [
        *(browser, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", *unsandboxed),
        *(f"--user-data-dir={scratch}/profile", "--virtual-time-budget=10000", *options, file.as_uri()),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ColdpressError(f"{browser} cannot draw the page ({error.__class__.__name__}): ask for .html") from error
    return done.stdout
