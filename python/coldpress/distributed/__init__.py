"""More than one process for one run: several on this machine, or the actors of a Ray cluster.

One process reads the source, decides what is new, and writes; workers prepare and compute chunks of it. So the store,
its outcomes and its fingerprint are byte for byte those of a run in one process, in whatever order the workers finish,
and however many of them are lost on the way.
"""

from coldpress.distributed.devices import parse_devices
from coldpress.distributed.embedding import embed

__all__ = ["embed", "parse_devices"]
