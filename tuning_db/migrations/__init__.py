"""Alembic migrations of the tuning DB; :mod:`tuning_db.schema` runs them."""
