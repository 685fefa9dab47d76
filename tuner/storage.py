"""Storage: where Optuna keeps its studies, beside the tuning DB."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import datetime, timezone

import optuna
from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import UserError
from tuner.optuna_file import optuna_file
from tuner.study import FIRST_RUN, finished_configs
from tuner.view import View


def open_storage(db_url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage for a tuning DB, made if need be. Raises UserError when it is unusable."""
    path = optuna_file(db_url)
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=20, check_same_thread=False)
        # Optuna commits every parameter by itself. What a power cut may take from this file is in
        # our own table, so it need not wait for the disk each time.
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    try:
        return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
    except (SQLAlchemyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"Optuna's storage {path} cannot be used ({reason}): delete or mend it, the trials "
            "themselves are in the tuning DB"
        ) from error


def new_study(storage: optuna.storages.RDBStorage, place: str, run_id: int) -> optuna.Study:
    """A fresh study of ``place`` that begins with run ``run_id``; older ones stay."""
    now = datetime.now(timezone.utc)
    study = optuna.create_study(storage=storage, study_name=f"{place} {now:%Y-%m-%d %H:%M:%S.%f}")
    study.set_user_attr(FIRST_RUN, run_id)
    return study


def last_study(
    storage: optuna.storages.RDBStorage, place: str, view: View, known: Collection[str], run_id: int
) -> optuna.Study | None:
    """The newest study of ``place`` begun before run ``run_id``, which resumes it.

    None when there is none or it knows more than our table. Later ones are of searches under way.

    ``known`` names the configs our table holds at that place: a study with others belongs to a
    tuning DB that is gone.
    """
    names = optuna.get_all_study_names(storage)
    mine = sorted((name for name in names if name.startswith(f"{place} ")), reverse=True)
    studies = (optuna.load_study(study_name=name, storage=storage) for name in mine)
    study = next(
        (study for study in studies if study.user_attrs.get(FIRST_RUN, run_id) < run_id), None
    )
    if study is None or not finished_configs(study, view) <= set(known):
        return None
    return study
