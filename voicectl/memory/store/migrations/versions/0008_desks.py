"""Desks that speak for an agent in Letta, and what the team says of each desk."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "desks",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("title", sa.String(length=100), nullable=False),
        sa.Column("agent_id", sa.String(length=80), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_desks")),
    )
    op.create_table(
        "desk_agents",
        sa.Column("agent_id", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=200), server_default="", nullable=False),
        sa.Column("system", sa.Text(), server_default="", nullable=False),
        sa.Column("no_calls", sa.String(length=200), server_default="", nullable=False),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("read_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("gone_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_desk_agents")),
    )
    op.create_table(
        "desk_blocks",
        sa.Column("agent_id", sa.String(length=80), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "label", name=op.f("pk_desk_blocks")),
    )
    op.create_table(
        "desk_policies",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("desk", sa.String(length=100), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_desk_policies")),
    )
    op.create_index("ix_desk_policies_desk_id", "desk_policies", ["desk", "id"])
    op.create_table(
        "desk_policy_blocks",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("block_id", sa.String(length=80), nullable=True),
        sa.Column("exchanged", sa.Text(), nullable=True),
        sa.Column("sending", sa.Text(), nullable=True),
        sa.Column("refused", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_desk_policy_blocks")),
    )
    op.create_table(
        "letta_policies",
        sa.Column("customer", sa.String(length=200), nullable=False),
        sa.Column("agent_id", sa.String(length=80), nullable=False),
        sa.Column("block_id", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["customer"], ["customers.key"], name=op.f("fk_letta_policies_customer")),
        sa.PrimaryKeyConstraint("customer", name=op.f("pk_letta_policies")),
    )
    with op.batch_alter_table("letta_conversations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("agent_id", sa.String(length=80), nullable=True))
