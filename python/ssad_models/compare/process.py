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

from ssad_models.compare.job import LOG, Job, do

# The server has imported what takes long, so that processes start at once; it computes nothing.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ssad_models.compare.job"])
_GRACE = 5.0  # seconds


def do_apart(job: Job) -> str:
    """Do a job in a process of its own. What it writes to stderr goes to a log in the run's folder.

    Returns:
        Why it failed, in a line; nothing if it did not.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
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
    log = job.folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if process.exitcode is not None and process.exitcode < 0:
        killed = signal.Signals(-process.exitcode)
        why = ", perhaps for want of memory" if killed == signal.SIGKILL else ""
        return f"killed by {killed.name}{why}" + (f": {last}" if last else "")
    return last or f"ended with exit code {process.exitcode}"


def _work(job: Job) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(job.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
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
