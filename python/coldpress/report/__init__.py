"""Reports: one self-contained page, drawn with plotly. `sections` makes the parts, `page` the whole."""

from __future__ import annotations

from coldpress.report.page import Section, check_page, write_page

__all__ = ["Section", "check_page", "write_page"]
