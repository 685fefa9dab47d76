"""Run by Alembic: applies the migrations on the connection that tuning_db.schema hands over."""

from alembic import context

from tuning_db.models import Base
from tuning_db.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
