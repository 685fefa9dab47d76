"""Runs: who is adding trials, and which of them died without saying so."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search_spaces.errors import UserError
from tuning_db.models import RunRow, TrialRow
from tuning_db.records import utc_now

RUNNING, KILLED = "running", "killed"
# A run elsewhere cannot be asked whether it lives; one that added no trial for a day does not.
SILENCE = timedelta(days=1)


def begin(
    session: Session,
    command: str,
    versions: Mapping[str, str],
    git_revision: str | None,
    seed: int,
) -> int:
    """Adds a run and closes those of this host whose process is gone."""
    if not 0 <= seed < 1 << 63:
        raise UserError(f"seed {seed}: must lie in 0..2^63-1")
    for row, last in _running(session):
        if row.host == socket.gethostname() and not _alive(row.pid):
            row.status, row.ended_at = KILLED, last
    run = RunRow(
        command=command,
        versions=json.dumps(dict(versions), sort_keys=True),
        git_revision=git_revision,
        seed=seed,
        status=RUNNING,
        host=socket.gethostname(),
        pid=os.getpid(),
    )
    session.add(run)
    session.flush()
    return run.id


def check_alone(session: Session) -> None:
    """Raises UserError while another process of this host is adding trials."""
    for row, _ in _running(session):
        if row.host == socket.gethostname() and row.pid != os.getpid() and _alive(row.pid):
            raise UserError(
                f"run {row.id} of this database is still going (process {row.pid}): wait for it, "
                "end it, or search without --resume"
            )


def end(session: Session, run_id: int, status: str) -> None:
    """Closes a run with its outcome."""
    row = session.get(RunRow, run_id)
    if row is None:
        raise UserError(f"run {run_id} is not in this database")
    if status in ("", RUNNING):
        raise UserError(f"run {run_id}: '{status}' is no way to end: finished, interrupted, failed")
    row.status, row.ended_at = status, utc_now()


def orphans(session: Session) -> list[RunRow]:
    """Runs still ``running`` whose process is gone, or silent for a day on another host."""
    here, now = socket.gethostname(), utc_now()
    return [
        row
        for row, last in _running(session)
        if (not _alive(row.pid) if row.host == here else now - last > SILENCE)
    ]


def _running(session: Session) -> list[tuple[RunRow, datetime]]:
    """Runs that did not end, each with its last sign of life."""
    query = (
        select(RunRow, func.max(TrialRow.created_at))
        .outerjoin(TrialRow, TrialRow.run_id == RunRow.id)
        .where(RunRow.status == RUNNING)
        .group_by(RunRow.id)
        .order_by(RunRow.id)
    )
    found = session.execute(query)
    return [(row, max(row.started_at, last or row.started_at)) for row, last in found]


def _alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's process has that number: it exists
    return True
