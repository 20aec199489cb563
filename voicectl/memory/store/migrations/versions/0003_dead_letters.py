"""What could not be mirrored, turn by turn, and how the mirroring is getting on."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("call_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_dead_letters_call_id")),
        sa.PrimaryKeyConstraint("call_id", "seq", name=op.f("pk_dead_letters")),
    )
    op.create_table(
        "sync_status",
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sync_status")),
    )
    with op.batch_alter_table("letta_conversations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("failures", sa.Integer(), server_default="0", nullable=False))
    # Calls given up before there was a list of them: the reason is where it was kept.
    op.execute(
        "INSERT INTO dead_letters (call_id, seq, state, why, at_ms) "
        "SELECT calls.id, 0, 'dead', COALESCE(letta_conversations.last_error, ''), COALESCE(calls.ended_ms, 0) "
        "FROM calls LEFT JOIN letta_conversations ON letta_conversations.call_id = calls.id "
        "WHERE calls.mirror = 'dead'"
    )
