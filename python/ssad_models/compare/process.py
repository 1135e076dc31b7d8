# SPDX-License-Identifier: Apache-2.0
"""Each training in a process of its own: its memory can be told, and its end is only its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback

from rich.console import Console

from ssad_models.compare.job import Job, do

# Seconds slower to start than a fork, but nothing is shared: neither memory nor threads nor a GPU.
_context = multiprocessing.get_context("spawn")
_GRACE = 5.0  # seconds


def do_apart(job: Job) -> str:
    """Do a job in a process of its own. What it writes to stderr goes to its log.

    Returns:
        Why it failed, in a line; nothing if it did not.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    job.log.write_bytes(b"")
    process = _context.Process(target=_work, args=(job,))
    process.start()
    try:
        process.join()
    finally:  # Ctrl-C reaches both; files are replaced whole, so nothing is lost that was saved
        process.join(_GRACE)
        process.kill()
        process.join()
    if process.exitcode == 0:
        return ""
    last = next((line.strip() for line in reversed(said(job)) if line.strip()), "")
    if process.exitcode is not None and process.exitcode < 0:
        killed = signal.Signals(-process.exitcode)
        why = ", perhaps for want of memory" if killed == signal.SIGKILL else ""
        return f"killed by {killed.name}{why}" + (f": {last}" if last else "")
    return last or f"ended with exit code {process.exitcode}"


def said(job: Job) -> list[str]:
    """The lines of its log."""
    return job.log.read_text(encoding="utf-8", errors="replace").splitlines()


def _work(job: Job) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 2)  # what C++ says before it ends the process is to be there, too
    try:
        do(job, Console())
    except Exception as error:
        traceback.print_exc()
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        sys.exit(1)


def _end_with_parent() -> None:
    """Not to go on beside the process that takes the work up again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
