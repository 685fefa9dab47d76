"""The five tables: run, gpu, problem, trial, winner."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)
KEY = sa.String(200)
WORD = sa.String(40)


def upgrade() -> None:
    _run()
    _gpu()
    _problem()
    _trial()
    _winner()


def downgrade() -> None:
    for table in ("winner", "trial", "problem", "gpu", "run"):
        op.drop_table(table)


def _run() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("uid", WORD, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("git_revision", sa.Text),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("host", sa.Text),
        sa.Column("pid", sa.BigInteger),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.UniqueConstraint("uid", name="uq_run_uid"),
    )


def _gpu() -> None:
    op.create_table(
        "gpu",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("uuid", KEY),
        sa.Column("arch", WORD, nullable=False),
        sa.Column("sms", sa.Integer),
        sa.Column("memory_bytes", sa.BigInteger),
        sa.Column("driver", WORD),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gpu"),
    )
    # coalesce: SQL holds two NULLs for different.
    card = ("name", "coalesce(uuid, '')", "coalesce(driver, '')")
    op.create_index("uq_gpu_card", "gpu", [sa.text(column) for column in card], unique=True)


def _problem() -> None:
    op.create_table(
        "problem",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("op", WORD, nullable=False),
        sa.Column("experts", sa.Integer, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("k", sa.Integer, nullable=False),
        sa.Column("top_k", sa.Integer, nullable=False),
        sa.Column("dtype", WORD, nullable=False),
        sa.Column("numerics", WORD, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_problem"),
        sa.UniqueConstraint("key", name="uq_problem_key"),
    )
    op.create_index("ix_problem_op", "problem", ["op"])


def _trial() -> None:
    op.create_table(
        "trial",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("uid", WORD, nullable=False),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("problem_id", sa.Integer, nullable=False),
        sa.Column("gpu_id", sa.Integer, nullable=False),
        sa.Column("bucket", WORD, nullable=False),
        sa.Column("tokens_per_expert", sa.Double, nullable=False),
        sa.Column("skew", WORD, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("source", WORD, nullable=False),
        sa.Column("verified", WORD, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("time_us", "time_spread_us", "tflops", "gbps")),
        sa.Column("roofline", sa.Double),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("is_finalist", sa.Boolean, nullable=False),
        sa.Column("rel_error", sa.Double),
        sa.Column("error", sa.Text),
        *(sa.Column(name, sa.Integer) for name in ("registers", "spills", "smem_bytes")),
        *(sa.Column(name, sa.Integer) for name in ("registers_native", "spills_native")),
        sa.Column("compile_seconds", sa.Double),
        sa.Column("template_hash", WORD),
        sa.Column("sm_clock_mhz", sa.Double),
        sa.Column("temperature_c", sa.Double),
        sa.Column("gpu_busy", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_trial"),
        sa.UniqueConstraint("uid", name="uq_trial_uid"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_trial_run_id"),
        sa.ForeignKeyConstraint(["problem_id"], ["problem.id"], name="fk_trial_problem_id"),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpu.id"], name="fk_trial_gpu_id"),
    )
    op.create_index("ix_trial_run_id", "trial", ["run_id"])
    op.create_index("ix_trial_gpu_id", "trial", ["gpu_id"])
    place = ["problem_id", "bucket"]
    op.create_index(
        "ix_trial_problem_id_bucket_gpu_id_status", "trial", [*place, "gpu_id", "status"]
    )
    defaults = sa.text("is_default")
    op.create_index(
        "ix_trial_default",
        "trial",
        [*place, "source"],
        sqlite_where=defaults,
        postgresql_where=defaults,
    )


def _winner() -> None:
    op.create_table(
        "winner",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("problem_id", sa.Integer, nullable=False),
        sa.Column("bucket", WORD, nullable=False),
        sa.Column("gpu_name", KEY, nullable=False),
        sa.Column("tokens_per_expert", sa.Double, nullable=False),
        sa.Column("skew", WORD, nullable=False),
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_winner"),
        sa.ForeignKeyConstraint(["problem_id"], ["problem.id"], name="fk_winner_problem_id"),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name="fk_winner_trial_id"),
    )
    op.create_index("ix_winner_gpu_name", "winner", ["gpu_name"])
    op.create_index("ix_winner_trial_id", "winner", ["trial_id"])
    place = ["problem_id", "bucket", "gpu_name"]
    op.create_index("uq_winner_place", "winner", place, unique=True)
