"""The two flat views for people and pandas: trials and best_configs."""

from alembic import op

revision = "0002"
down_revision = "0001"

# default_us: what the default config took for the same problem, bucket and GPU model. A time from
# another source is no comparison; the same run and the same stage of it (finalists are measured
# interleaved with the default) on the same card come before others, newer before older.
# Ranked inside, ordered outside: SQLite does not find t in the ORDER BY of a scalar subquery.
DEFAULT_US = """
SELECT c.time_us FROM (
  SELECT d.id, d.time_us,
         CASE WHEN d.run_id = t.run_id THEN 0 ELSE 1 END AS other_run,
         CASE WHEN d.is_finalist = t.is_finalist THEN 0 ELSE 1 END AS other_stage,
         CASE WHEN d.gpu_id = t.gpu_id THEN 0 ELSE 1 END AS other_card
    FROM trial d JOIN gpu dg ON dg.id = d.gpu_id
   WHERE d.problem_id = t.problem_id AND d.bucket = t.bucket AND dg.name = g.name
     AND d.source = t.source AND d.status = 'ok' AND d.is_default AND d.time_us IS NOT NULL
) c
ORDER BY c.other_run, c.other_stage, c.other_card, c.id DESC
LIMIT 1
"""

TRIALS = f"""
CREATE VIEW trials AS
SELECT q.id, q.gpu, q.model, q.problem, q.op, q.bucket, q.tokens_per_expert, q.skew, q.config,
       q.status, q.time_us, q.time_spread_us, q.tflops, q.gbps, q.roofline,
       q.default_us, q.default_us / q.time_us AS speedup_vs_default,
       q.source, q.verified, q.is_default, q.is_finalist, q.is_winner, q.rel_error, q.error,
       q.registers, q.spills, q.smem_bytes, q.registers_native, q.spills_native,
       q.sm_clock_mhz, q.temperature_c, q.gpu_busy, q.compile_seconds, q.template_hash,
       q.gpu_uuid, q.gpu_arch, q.gpu_sms, q.gpu_memory_bytes, q.gpu_driver,
       q.run_id, q.run_command, q.run_versions, q.run_git_revision, q.run_seed, q.run_status,
       q.run_started_at, q.run_ended_at, q.run_uid, q.uid, q.created_at
  FROM (
    SELECT t.*, g.name AS gpu, p.label AS model, p.key AS problem, p.op AS op,
           ({DEFAULT_US}) AS default_us,
           EXISTS (SELECT 1 FROM winner w WHERE w.trial_id = t.id) AS is_winner,
           g.uuid AS gpu_uuid, g.arch AS gpu_arch, g.sms AS gpu_sms,
           g.memory_bytes AS gpu_memory_bytes, g.driver AS gpu_driver,
           r.command AS run_command, r.versions AS run_versions,
           r.git_revision AS run_git_revision, r.seed AS run_seed, r.status AS run_status,
           r.started_at AS run_started_at, r.ended_at AS run_ended_at, r.uid AS run_uid
      FROM trial t
      JOIN run r ON r.id = t.run_id
      JOIN problem p ON p.id = t.problem_id
      JOIN gpu g ON g.id = t.gpu_id
  ) q
"""

BEST_CONFIGS = """
CREATE VIEW best_configs AS
SELECT w.gpu_name AS gpu, t.model, t.problem, t.op, w.bucket, w.tokens_per_expert, w.skew,
       t.config, t.time_us, t.time_spread_us, t.tflops, t.gbps, t.roofline,
       t.default_us, t.speedup_vs_default, t.source, t.verified, t.is_default, t.rel_error,
       t.registers, t.spills, t.smem_bytes, t.registers_native, t.spills_native,
       t.sm_clock_mhz, t.temperature_c, t.gpu_busy, t.template_hash,
       t.id AS trial_id, t.run_id, t.run_command, t.created_at, w.decided_at
  FROM winner w
  JOIN trials t ON t.id = w.trial_id
"""


def upgrade() -> None:
    op.execute(TRIALS)
    op.execute(BEST_CONFIGS)


def downgrade() -> None:
    op.execute("DROP VIEW best_configs")
    op.execute("DROP VIEW trials")
