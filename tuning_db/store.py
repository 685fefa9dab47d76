"""Store: the one way the other packages read and write the tuning DB."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.gpu import canonical_name
from search_spaces.problems import AnyProblem
from tuning_db import catalogue, runs, schema, trials, winners
from tuning_db.connection import WRITES, make_engine, use_wal
from tuning_db.failures import clear_errors
from tuning_db.records import GpuRecord, TrialRecord, TrialStatus, Verified, Winner
from tuning_db.url import resolve_url, shown


class TuningDB:
    """What was measured and who won, in one SQLite file or any database SQLAlchemy reaches.

    One coordinator writes; any number of processes read meanwhile (SQLite in WAL mode). Each
    method is a transaction of its own: what returned is on disk. GPU names are taken in any
    spelling and stored canonical. Every method raises UserError when the database is locked,
    read-only, full or gone.
    """

    def __init__(self, engine: Engine, url: str) -> None:
        """Use :meth:`open`: it checks and migrates the database first."""
        self.engine = engine
        self.url = url
        self._writer = engine.execution_options(**{WRITES: True})
        self._cards: dict[tuple[str, str | None], int] = {}

    @classmethod
    def open(
        cls,
        path_or_url: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        readonly: bool = False,
    ) -> TuningDB:
        """Opens (and with ``create`` makes) the database; None means LIGHT_MOE_DB or the default.

        A writable one is migrated to the newest schema; a read-only one must have it already.
        Raises UserError when there is none, it is no tuning DB, it comes from a newer version, or
        it cannot be written although ``readonly`` is False.
        """
        url = resolve_url(path_or_url)
        engine = make_engine(url, create=create, readonly=readonly)
        try:
            with clear_errors(url):
                _prepare(engine, url, create=create, readonly=readonly)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, url)

    @staticmethod
    def check(path_or_url: str | os.PathLike[str] | None = None, *, create: bool = True) -> str:
        """The database's URL, once its name, folder, kind and driver are found to be in order.

        Touches no file and asks no server. Raises UserError as :meth:`open` would.
        """
        url = resolve_url(path_or_url)
        make_engine(url, create=create, readonly=False).dispose()
        return url

    def close(self) -> None:
        """Gives all connections back."""
        self.engine.dispose()

    def __enter__(self) -> TuningDB:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session on one consistent snapshot."""
        with clear_errors(self.url), Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that commits at the end, or leaves no trace when the block raises."""
        with clear_errors(self.url), Session(self._writer) as session, session.begin():
            yield session

    def begin_run(
        self,
        command: str,
        versions: Mapping[str, str],
        git_revision: str | None,
        seed: int,
        *,
        alone: bool = False,
    ) -> int:
        """Opens a run of this process and returns its id; ``seed`` lies in 0..2^63-1.

        Runs that processes of this host left ``running`` when they were killed become ``killed``.
        With ``alone`` it raises UserError while another process of this host has a run open.
        """
        with self.writing() as session:
            if alone:
                runs.check_alone(session)
            return runs.begin(session, command, versions, git_revision, seed)

    def end_run(self, run_id: int, status: str) -> None:
        """Closes a run: ``finished``, ``interrupted`` (Ctrl-C) or ``failed``."""
        with self.writing() as session:
            runs.end(session, run_id, status)

    def gpu_id(self, gpu: GpuRecord) -> int:
        """Id of the card under its driver, stored on first sight; its trials refer to it."""
        with self.writing() as session:
            row_id = catalogue.gpu_id(session, gpu)
        self._cards[canonical_name(gpu.name), gpu.uuid] = row_id
        return row_id

    def problem_id(self, problem: AnyProblem) -> int:
        """Id of the problem, stored on first sight.

        The first label that is not "custom" stays: problems are one by their shape.
        """
        with self.writing() as session:
            return catalogue.problem_id(session, problem)

    def add_trial(self, trial: TrialRecord) -> int:
        """Stores a finished trial and returns its id; ``trial.id`` is not looked at.

        Raises UserError when its run or its card (:meth:`gpu_id`) was never stored.
        """
        card = self._cards.get((canonical_name(trial.gpu_name), trial.gpu_uuid))
        with self.writing() as session:
            return trials.add(session, trial, card)

    def set_verified(self, trial_id: int, verified: Verified) -> None:
        """Notes where the trial's result was checked. Raises UserError for an unknown trial."""
        with self.writing() as session:
            trials.find(session, trial_id).verified = verified.value

    def buckets(self, problem: AnyProblem, gpu_name: str) -> list[Bucket]:
        """The buckets that have trials on that GPU model, by skew and tokens per expert."""
        with self.reading() as session:
            return trials.select_buckets(session, problem, gpu_name)

    def trials(
        self,
        problem: AnyProblem,
        bucket: Bucket,
        gpu_name: str,
        *,
        statuses: Iterable[TrialStatus] | None = None,
    ) -> list[TrialRecord]:
        """Every trial of all runs and of all cards of that model, oldest first."""
        with self.reading() as session:
            return trials.select_all(session, problem, bucket, gpu_name, statuses)

    def set_winner(self, problem: AnyProblem, bucket: Bucket, gpu_name: str, trial_id: int) -> bool:
        """Makes the trial the winner, unless the one there has a better source; True if it is now.

        Sources rank measured, replayed, predicted; among equals the newer decision stays. Raises
        UserError when the trial is not ``ok``, has no time or belongs to another place.
        """
        with self.writing() as session:
            return winners.decide(session, problem, bucket, gpu_name, trial_id)

    def winner(self, problem: AnyProblem, bucket: Bucket, gpu_name: str) -> Winner | None:
        """The winner of exactly this bucket, if there is one."""
        with self.reading() as session:
            found = winners.select_for(session, gpu_name, problem=problem, bucket=bucket)
        return found[0] if found else None

    def winners(self, gpu_name: str, *, op: str | None = None) -> list[Winner]:
        """All winners of a GPU model by problem, skew and tokens per expert."""
        with self.reading() as session:
            return winners.select_for(session, gpu_name, op=op)


def _prepare(engine: Engine, url: str, *, create: bool, readonly: bool) -> None:
    with engine.connect() as connection:
        found = schema.revision(connection)
    schema.check_known(found, url)
    if found is None and (readonly or not create):
        raise UserError(f"{shown(url)} is no tuning DB: run python -m tuner.search to make one")
    if readonly:
        if found != schema.HEAD:
            raise UserError(
                f"database {shown(url)} has the older schema {found}: run "
                "python -m tuning_db doctor --migrate once"
            )
        return
    if found != schema.HEAD:
        schema.upgrade(engine, url)
    use_wal(engine)
    schema.check_writable(engine)
