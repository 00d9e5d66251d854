"""What is shown of items: their texts, from one directory only."""

from __future__ import annotations

from pathlib import Path

from coldpress import Extractor, VectorIndex
from coldpress.serve.catalogue import Catalogue


def test_lines_of_text_files_are_shown_where_the_operator_allows_it(extractor: Extractor, tmp_path: Path) -> None:
    notes = tmp_path / "media" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("the first line\nthe second line\n" + "long " * 200 + "\n")
    index = VectorIndex.build(extractor.embed_to(tmp_path / "store", notes))
    keys = [str(key) for key in index.keys]

    def texts(media: Path | None) -> list[str | None]:
        return [known.get("text") for known in Catalogue(index, media, None, 1000).describe(keys)]

    assert texts(notes.parent) == ["the first line", "the second line", ("long " * 200)[:400]]
    (tmp_path / "elsewhere").mkdir()
    assert texts(None) == texts(tmp_path / "elsewhere") == [None] * 3
    notes.rename(tmp_path / "moved.txt")
    assert texts(notes.parent) == [None] * 3
    notes.symlink_to(tmp_path / "moved.txt")
    assert texts(notes.parent) == [None] * 3
    assert all("source" not in known["metadata"] for known in Catalogue(index, None, None, 1000).describe(keys))
