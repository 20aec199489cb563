"""Alembic's entry: runs the versions on the connection that engine.py hands over, inside its transaction."""

from alembic import context

from voicectl.memory.store.engine import VERSION_TABLE
from voicectl.memory.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
