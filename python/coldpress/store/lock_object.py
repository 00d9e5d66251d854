"""`LockObject`: one writer at a time where there are no locks, by a small file that names the writer."""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from coldpress._urls import os_errors, retrying
from coldpress.errors import StoreError

logger = logging.getLogger(__name__)


class LockObject:
    """The file ``.lock`` of a store behind a URL, there while its writer is at work.

    One left by a killed process of this machine is taken over; one of another machine has to be deleted by hand,
    because nothing says whether its writer lives. A writer whose lock was taken away stops at its next commit.
    """

    def __init__(self, filesystem: Any, path: str, where: str) -> None:
        self._filesystem, self._path, self._where = filesystem, path, where
        pid = os.getpid()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._mine = {
            "host": platform.node(),
            "pid": pid,
            "started": _started(pid),
            "time": now,
            "token": uuid.uuid4().hex,
        }
        holder = self._read()
        if holder is not None:
            if not _is_dead(holder):
                raise self._refusal(holder)
            logger.info("%s: the lock of a killed process %s is taken over", where, holder["pid"])
            self._remove()
        self._create()
        if (holder := self._read()) != self._mine:
            raise self._refusal(holder or {})
        self._held = True

    def confirm(self) -> None:
        """Raise `StoreError` if the lock is not ours any more: somebody has deleted it, and may be writing."""
        if self._read() != self._mine:
            self._held = False
            raise StoreError(
                f"{self._where}: its .lock was deleted or replaced while this process was writing; committed shards "
                "are intact: make sure that there is one writer, then run the same command again"
            )

    def release(self) -> None:
        """Let others write; harmless when repeated."""
        if not self._held:
            return
        self._held = False
        try:
            if self._read() == self._mine:
                self._remove()
        except OSError as error:
            logger.warning("%s/.lock could not be deleted (%s); delete it if a later run refuses", self._where, error)

    def _read(self) -> Mapping[str, Any] | None:
        def read() -> Any:
            self._filesystem.invalidate_cache(self._path)
            return self._filesystem.cat_file(self._path)

        try:
            with os_errors():
                content = retrying(read)
        except FileNotFoundError:
            return None
        try:
            holder = json.loads(content)
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) else {}

    def _remove(self) -> None:
        with os_errors(), suppress(FileNotFoundError):
            retrying(lambda: self._filesystem.rm_file(self._path))

    def _create(self) -> None:
        content = json.dumps(self._mine).encode()
        try:
            retrying(lambda: self._filesystem.pipe_file(self._path, content, mode="create"))
        except FileExistsError:
            return  # by somebody who was quicker, or by a try of ours that seemed to have failed: the caller reads who
        except Exception:  # no exclusive creation here, or no directory yet: put_file makes those above it
            try:
                with tempfile.TemporaryDirectory() as directory, os_errors():
                    (Path(directory) / "lock").write_bytes(content)
                    retrying(lambda: self._filesystem.put_file(str(Path(directory) / "lock"), self._path))
            except OSError:
                with suppress(OSError):
                    if self._read() == {}:  # cut off: it would name nobody and stop everybody
                        self._remove()
                raise

    def _refusal(self, holder: Mapping[str, Any]) -> StoreError:
        who = "somebody"
        if holder:
            who = f"process {holder.get('pid')} on host {holder.get('host')}, since {holder.get('time')},"
        return StoreError(
            f"{self._where}: {who} is writing to this store; wait for it to end, or, if it is gone, "
            f"delete {self._where}/.lock and run again"
        )


def _is_dead(holder: Mapping[str, Any]) -> bool:
    """Whether the writer was a process of this machine that has ended."""
    pid = holder.get("pid")
    return holder.get("host") == platform.node() and isinstance(pid, int) and _started(pid) != holder.get("started")


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since the machine did; ``"?"`` where only its being there is known."""
    try:
        # The second field is the program's name in brackets and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie writes no more
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return None
    except PermissionError:
        pass
    return "?"
