"""The tables, as SQLAlchemy Core sees them. Times are milliseconds since 1970, UTC.

The migrations under migrations/ create them; a test compares the two. Leases are apart (leases.py): on SQLite they live
in a file of their own, so that a migration or a long write here does not stop renewals.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows only in an INTEGER PRIMARY KEY; PostgreSQL needs the 64 bits.
RowId = BigInteger().with_variant(Integer, "sqlite")

customers = Table(
    "customers",
    metadata,
    Column("key", String(200), primary_key=True),
    # Raised first when a customer is forgotten: whatever carries an older one is refused everywhere.
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("created_ms", BigInteger, nullable=False),
)

calls = Table(
    "calls",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("customer", String(200), ForeignKey("customers.key"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("room", String(300), nullable=False),
    Column("desk", String(100), nullable=False),
    Column("state", String(10), nullable=False),  # calls.CallState
    Column("reason", String(200), nullable=False, server_default=""),
    Column("fence", BigInteger, nullable=False),  # the room fence that may write
    Column("last_seq", Integer, nullable=False, server_default="0"),
    Column("progress", Text, nullable=False, server_default="{}"),  # call state for a successor, JSON
    Column("learnt", Integer, nullable=False, server_default="0"),  # 1: a memory step has covered its turns
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
)
Index("ix_calls_customer_started_ms", calls.c.customer, calls.c.started_ms)
Index("ix_calls_room_state", calls.c.room, calls.c.state)
Index("ix_calls_state", calls.c.state)

turns = Table(
    "turns",
    metadata,
    Column("call_id", String(40), ForeignKey("calls.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("item_id", String(80), nullable=False),  # LiveKit's id: the idempotency key of a replay
    Column("role", String(20), nullable=False),  # recorder.Role
    Column("text", Text, nullable=False),
    Column("interrupted", Integer, nullable=False, server_default="0"),
    Column("agent", String(100), nullable=False, server_default=""),
    Column("at_ms", BigInteger, nullable=False),  # when it was said
    UniqueConstraint("call_id", "item_id"),
)

refused_turns = Table(
    "refused_turns",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("call_id", String(40), nullable=False),
    Column("item_id", String(80), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("role", String(20), nullable=False),
    Column("text", Text, nullable=False),
    Column("why", String(200), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

profile_ops = Table(
    "profile_ops",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("customer", String(200), ForeignKey("customers.key"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("block", String(50), nullable=False),  # profile.Block
    Column("op", String(10), nullable=False),  # profile.Op
    Column("line", Text, nullable=False),  # the line added, or the line removed
    Column("old_line", Text),  # what a replace took the place of
    Column("source", String(20), nullable=False),  # profile.Source
    Column("call_id", String(40)),
    Column("item_id", String(80)),  # the turn that taught it
    Column("at_ms", BigInteger, nullable=False),
)
Index("ix_profile_ops_customer_id", profile_ops.c.customer, profile_ops.c.id)

# The rendering of profile_ops, written in the same transaction, so that joining a call is one indexed read.
profile_lines = Table(
    "profile_lines",
    metadata,
    Column("customer", String(200), ForeignKey("customers.key"), primary_key=True),
    Column("block", String(50), primary_key=True),
    Column("position", BigInteger, primary_key=True),  # the operation that first made the line
    Column("line", Text, nullable=False),
    Column("op_id", BigInteger, nullable=False),  # the operation that made it what it is
)
