"""Models: the five tables, as SQLAlchemy's typed ORM classes.

Every change here needs a migration beside it; a test compares the two.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, ClassVar
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tuning_db.records import utc_now

KEY = String(200)  # text in an index
WORD = String(40)  # one of a few values, a hash, a short name

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC on every database; SQLite keeps no zone, so it is put back on."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return aware.astimezone(timezone.utc)


class Base(DeclarativeBase):
    """Tables of the tuning DB; constraints have stable names, so that migrations can drop them."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {float: Double()}


def _uid() -> str:
    return uuid4().hex


class RunRow(Base):
    """One call of a tool that adds trials. ``uid`` is the same in every DB it is copied to."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(WORD, unique=True, default=_uid)
    command: Mapped[str] = mapped_column(Text)
    versions: Mapped[str] = mapped_column(Text)  # JSON object: package -> version
    git_revision: Mapped[str | None] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(WORD)
    host: Mapped[str | None] = mapped_column(Text)
    pid: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class GpuRow(Base):
    """A card under one driver. ``uuid`` and ``driver`` are NULL for a target without hardware."""

    __tablename__ = "gpu"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(KEY)
    uuid: Mapped[str | None] = mapped_column(KEY)
    arch: Mapped[str] = mapped_column(WORD)
    sms: Mapped[int | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    driver: Mapped[str | None] = mapped_column(WORD)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


# coalesce: SQL holds two NULLs for different, and would let the same target in twice.
Index(
    "uq_gpu_card",
    GpuRow.name,
    func.coalesce(GpuRow.uuid, text("''")),
    func.coalesce(GpuRow.driver, text("''")),
    unique=True,
)


class ProblemRow(Base):
    """``key`` is the identity (the label is no part of it) and the one source of the shape."""

    __tablename__ = "problem"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(KEY, unique=True)
    label: Mapped[str] = mapped_column(Text)
    op: Mapped[str] = mapped_column(WORD, index=True)
    experts: Mapped[int]
    n: Mapped[int]
    k: Mapped[int]
    top_k: Mapped[int]
    dtype: Mapped[str] = mapped_column(WORD)
    numerics: Mapped[str] = mapped_column(WORD)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class TrialRow(Base):
    """One config tried. Rows are only ever added; ``verified`` alone changes later."""

    __tablename__ = "trial"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(WORD, unique=True, default=_uid)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), index=True)
    problem_id: Mapped[int] = mapped_column(ForeignKey("problem.id"))
    gpu_id: Mapped[int] = mapped_column(ForeignKey("gpu.id"), index=True)
    bucket: Mapped[str] = mapped_column(WORD)
    tokens_per_expert: Mapped[float]
    skew: Mapped[str] = mapped_column(WORD)
    config: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(WORD)
    source: Mapped[str] = mapped_column(WORD)
    verified: Mapped[str] = mapped_column(WORD)
    time_us: Mapped[float | None]
    time_spread_us: Mapped[float | None]
    tflops: Mapped[float | None]
    gbps: Mapped[float | None]
    roofline: Mapped[float | None]
    is_default: Mapped[bool]
    is_finalist: Mapped[bool]
    rel_error: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)
    registers: Mapped[int | None]
    spills: Mapped[int | None]
    smem_bytes: Mapped[int | None]
    registers_native: Mapped[int | None]
    spills_native: Mapped[int | None]
    compile_seconds: Mapped[float | None]
    template_hash: Mapped[str | None] = mapped_column(WORD)
    sm_clock_mhz: Mapped[float | None]
    temperature_c: Mapped[float | None]
    gpu_busy: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    problem: Mapped[ProblemRow] = relationship(lazy="raise")
    gpu: Mapped[GpuRow] = relationship(lazy="raise")

    __table_args__ = (
        Index(None, "problem_id", "bucket", "gpu_id", "status"),
        Index(
            "ix_trial_default",
            "problem_id",
            "bucket",
            "source",
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
    )


class WinnerRow(Base):
    """The best trial for (problem, bucket, GPU model): at most one, shared by identical cards."""

    __tablename__ = "winner"

    id: Mapped[int] = mapped_column(primary_key=True)
    problem_id: Mapped[int] = mapped_column(ForeignKey("problem.id"))
    bucket: Mapped[str] = mapped_column(WORD)
    gpu_name: Mapped[str] = mapped_column(KEY, index=True)
    tokens_per_expert: Mapped[float]
    skew: Mapped[str] = mapped_column(WORD)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id"), index=True)
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)

    problem: Mapped[ProblemRow] = relationship(lazy="raise")
    trial: Mapped[TrialRow] = relationship(lazy="raise")

    __table_args__ = (Index("uq_winner_place", "problem_id", "bucket", "gpu_name", unique=True),)
