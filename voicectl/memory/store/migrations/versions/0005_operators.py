"""A line keeps its identity through the log, losers and undone operations are marked; who was forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = ("position", "overruled_by", "undoes")


def upgrade() -> None:
    with op.batch_alter_table("profile_ops", schema=None) as batch_op:
        for name in COLUMNS:
            batch_op.add_column(sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_table(
        "forgotten",
        sa.Column("customer", sa.String(length=16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("letta", sa.String(length=10), nullable=False),
        sa.Column("to_do", sa.Text(), server_default="", nullable=False),
        sa.Column("empty_ms", sa.BigInteger(), nullable=True),
        sa.Column("checked_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("customer", name=op.f("pk_forgotten")),
    )
    op.create_table(
        "forgotten_calls",
        sa.Column("call_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_forgotten_calls")),
    )
    _find_positions(op.get_bind())


def _find_positions(connection: sa.Connection) -> None:
    """Replay the log of each block: an added line's identity is its operation, later ones follow it."""
    ops = sa.table("profile_ops", *(sa.column(c) for c in ("id", "customer", "block", "op", "line", "old_line")))
    present: dict[tuple[str, str], dict[str, int]] = {}
    found: list[dict[str, int]] = []
    for row in connection.execute(sa.select(ops).order_by(ops.c.id)):
        lines = present.setdefault((row.customer, row.block), {})
        if row.op == "add":
            position = lines[row.line] = row.id
        else:
            position = lines.pop(row.old_line if row.op == "replace" else row.line, row.id)
            if row.op == "replace":
                lines[row.line] = position
        found.append({"of": row.id, "at": position})
    if found:
        change = sa.text("UPDATE profile_ops SET position = :at WHERE id = :of")
        connection.execute(change, found)
