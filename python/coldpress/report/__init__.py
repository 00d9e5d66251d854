"""The HTML report: one self-contained file, drawn with plotly. `sections` makes the parts, `page` the whole."""

from __future__ import annotations

from coldpress.report.page import Section, write_page

__all__ = ["Section", "write_page"]
