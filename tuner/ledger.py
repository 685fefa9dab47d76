"""Ledger: turns measurements into rows of the trial table, each as it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from search_spaces.fingerprint import template_fingerprint
from templates.built import BuildError, Built
from tuner.backends.base import Measurement
from tuner.figures import Work
from tuner.layer_place import LayerPlace
from tuner.plan import Place
from tuning_db.finals import Final, last_final
from tuning_db.records import TrialRecord, TrialStatus, Verified
from tuning_db.store import TuningDB


class Ledger:
    """Writes the trials of one run at one place (problem, bucket, GPU model, source)."""

    def __init__(self, db: TuningDB, run_id: int, place: Place | LayerPlace) -> None:
        self.db, self.run_id, self.place = db, run_id, place
        self.default = place.view.default()
        self.template = template_fingerprint(place.problem.op)
        self._work = Work.of(place.problem, place.bucket, place.target.gpu)

    def past(self) -> list[TrialRecord]:
        """Search trials of this place, source and template, oldest first; each config once."""
        rows = (row for row in self._rows() if not row.is_finalist)
        return list({row.config: row for row in rows}.values())

    def last_final(self) -> Final:
        """Finalists of the newest run that held a final here: the last trial on each card."""
        return last_final(self._rows())

    def _rows(self) -> list[TrialRecord]:
        place = self.place
        rows = self.db.trials(place.problem, place.bucket, place.target.gpu.name)
        return [
            row for row in rows if row.source is place.source and row.template_hash == self.template
        ]

    def failed_build(self, config: Any, error: BuildError) -> TrialRecord:
        """Stores a config that does not compile."""
        failure = Measurement(
            config, TrialStatus.COMPILE_ERROR, self.place.source, Verified.NONE, error=error.log
        )
        return self._store(self._record(failure, is_finalist=False))

    def measured(
        self, measurement: Measurement, built: Built, *, is_finalist: bool = False
    ) -> TrialRecord:
        """Stores what a backend found out about a built config."""
        record = self._record(measurement, is_finalist=is_finalist)
        binaries = list(built.binaries.values())
        if not binaries:  # a replay builds nothing
            return self._store(record)
        own, native = binaries[0].resources, binaries[-1].resources
        return self._store(
            replace(
                record,
                registers=own.registers,
                spills=own.spill_stores + own.spill_loads,
                smem_bytes=built.variant.smem_bytes + own.smem_static,
                registers_native=native.registers if len(binaries) > 1 else None,
                spills_native=(
                    native.spill_stores + native.spill_loads if len(binaries) > 1 else None
                ),
                compile_seconds=built.seconds,
            )
        )

    def whole(self, measurement: Measurement) -> TrialRecord:
        """Stores what was found out about a finalist that others built."""
        return self._store(self._record(measurement, is_finalist=True))

    def _record(self, m: Measurement, *, is_finalist: bool) -> TrialRecord:
        return TrialRecord(
            run_id=self.run_id,
            problem=self.place.problem,
            bucket=self.place.bucket,
            gpu_name=self.place.target.gpu.name,
            gpu_uuid=m.gpu_uuid,
            config=str(m.config),
            status=m.status,
            source=m.source,
            verified=m.verified,
            time_us=m.time_us,
            time_spread_us=m.spread_us,
            tflops=(self._work.tflops(m.time_us) or None) if m.time_us else None,
            gbps=self._work.gbps(m.time_us) if m.time_us else None,
            roofline=self._work.roofline(m.time_us) if m.time_us else None,
            is_default=m.config == self.default,
            is_finalist=is_finalist,
            rel_error=m.rel_error,
            error=m.error,
            template_hash=self.template,
            sm_clock_mhz=m.sm_clock_mhz,
            temperature_c=m.temperature_c,
            gpu_busy=m.gpu_busy,
        )

    def _store(self, record: TrialRecord) -> TrialRecord:
        return replace(record, id=self.db.add_trial(record))
