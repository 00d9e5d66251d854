"""Sources: where items come from. A file format is one module with a ``FORMAT``, found by the registry."""

from coldpress.data.memory import MemorySource
from coldpress.data.opening import open_source
from coldpress.data.source import Columns, File, Format, Peeked, Source, formats

__all__ = ["Columns", "File", "Format", "MemorySource", "Peeked", "Source", "formats", "open_source"]
