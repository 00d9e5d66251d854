"""More than one process for one run: several on this machine, or the actors of a Ray cluster.

One process reads the source, decides what is new, and writes; workers prepare and compute chunks of it. So the store,
its outcomes and its fingerprint are byte for byte those of a run in one process, in whatever order the workers finish,
and however many of them are lost on the way. An index is built in the same way: one process trains and puts together.
"""

from coldpress.distributed.devices import parse_devices
from coldpress.distributed.embedding import embed
from coldpress.distributed.indexing import build_index

__all__ = ["build_index", "embed", "parse_devices"]
