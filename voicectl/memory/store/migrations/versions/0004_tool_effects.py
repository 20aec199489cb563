"""What tools did: an effect is noted before it is made, so that a successor does not make it again."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tool_effects",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("call_id", sa.String(length=40), nullable=False),
        sa.Column("turn_item", sa.String(length=80), nullable=False),
        sa.Column("tool", sa.String(length=100), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("result", sa.Text(), server_default="", nullable=False),
        sa.Column("at_seq", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_tool_effects_call_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_tool_effects")),
    )
    with op.batch_alter_table("tool_effects", schema=None) as batch_op:
        batch_op.create_index("ix_tool_effects_call_id", ["call_id"], unique=False)
    with op.batch_alter_table("refused_turns", schema=None) as batch_op:
        batch_op.create_index("ix_refused_turns_call_id_item_id", ["call_id", "item_id"], unique=False)
