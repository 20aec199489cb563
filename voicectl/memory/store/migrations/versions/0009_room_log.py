"""What happened to rooms, and how often."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "room_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=20), nullable=False),
        sa.Column("room", sa.String(length=300), nullable=False),
        sa.Column("ours", sa.String(length=200), nullable=False),
        sa.Column("our_fence", sa.BigInteger(), nullable=False),
        sa.Column("theirs", sa.String(length=200), nullable=False),
        sa.Column("their_fence", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_room_log")),
    )
    op.create_index("ix_room_log_room_id", "room_log", ["room", "id"])
    op.create_index("ix_room_log_at_ms", "room_log", ["at_ms"])
    op.create_table(
        "room_counts",
        sa.Column("event", sa.String(length=20), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event", name=op.f("pk_room_counts")),
    )
