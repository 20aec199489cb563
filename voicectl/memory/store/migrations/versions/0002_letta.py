"""What we know of Letta: agents, blocks, conversations, batches; and where each call is on its way there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "letta_agents",
        sa.Column("customer", sa.String(length=200), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("agent_id", sa.String(length=80), nullable=True),
        sa.Column("model", sa.String(length=300), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("seen_op", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("checked_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["customer"], ["customers.key"], name=op.f("fk_letta_agents_customer")),
        sa.PrimaryKeyConstraint("customer", name=op.f("pk_letta_agents")),
    )
    with op.batch_alter_table("letta_agents", schema=None) as batch_op:
        batch_op.create_index("ix_letta_agents_checked_ms", ["checked_ms"], unique=False)

    op.create_table(
        "letta_blocks",
        sa.Column("customer", sa.String(length=200), nullable=False),
        sa.Column("block", sa.String(length=50), nullable=False),
        sa.Column("block_id", sa.String(length=80), nullable=False),
        sa.Column("exchanged", sa.Text(), nullable=True),
        sa.Column("sending", sa.Text(), nullable=True),
        sa.Column("refused", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["customer"], ["customers.key"], name=op.f("fk_letta_blocks_customer")),
        sa.PrimaryKeyConstraint("customer", "block", name=op.f("pk_letta_blocks")),
    )
    op.create_table(
        "letta_batches",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("call_id", sa.String(length=40), nullable=False),
        sa.Column("conversation_id", sa.String(length=80), nullable=False),
        sa.Column("first_seq", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("deadline_ms", sa.BigInteger(), nullable=False),
        sa.Column("absent_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_letta_batches_call_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_letta_batches")),
    )
    with op.batch_alter_table("letta_batches", schema=None) as batch_op:
        batch_op.create_index("ix_letta_batches_call_id_state", ["call_id", "state"], unique=False)

    op.create_table(
        "letta_conversations",
        sa.Column("call_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("conversation_id", sa.String(length=80), nullable=True),
        sa.Column("mode", sa.String(length=10), nullable=False),
        sa.Column("mirrored_seq", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_letta_conversations_call_id")),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_letta_conversations")),
    )
    with op.batch_alter_table("calls", schema=None) as batch_op:
        batch_op.add_column(sa.Column("mirror", sa.String(length=10), server_default="open", nullable=False))
        batch_op.create_index("ix_calls_mirror", ["mirror"], unique=False)
