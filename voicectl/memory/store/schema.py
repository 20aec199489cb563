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
    Column("learnt", Integer, nullable=False, server_default="0"),  # learning.states.Learnt
    Column("mirror", String(10), nullable=False, server_default="open"),  # sync.states.MirrorState
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
)
Index("ix_calls_customer_started_ms", calls.c.customer, calls.c.started_ms)
Index("ix_calls_room_state", calls.c.room, calls.c.state)
Index("ix_calls_state", calls.c.state)
Index("ix_calls_mirror", calls.c.mirror)
Index("ix_calls_learnt_state", calls.c.learnt, calls.c.state)

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

Index("ix_refused_turns_call_id_item_id", refused_turns.c.call_id, refused_turns.c.item_id)

tool_effects = Table(
    "tool_effects",
    metadata,
    Column("key", String(64), primary_key=True),  # effects.key_of: unique in the business database too
    Column("call_id", String(40), ForeignKey("calls.id"), nullable=False),
    Column("turn_item", String(80), nullable=False),  # the customer's turn that led to it
    Column("tool", String(100), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("state", String(10), nullable=False),  # effects.EffectState
    Column("result", Text, nullable=False, server_default=""),
    Column("at_seq", Integer, nullable=False),  # the call's last turn when the state was written
    Column("at_ms", BigInteger, nullable=False),
)
Index("ix_tool_effects_call_id", tool_effects.c.call_id)

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
    Column("item_id", String(80)),  # the turn that taught it; of an import, file and line
    Column("at_ms", BigInteger, nullable=False),
    Column("position", BigInteger),  # the line it is about, by the operation that first made it
    Column("overruled_by", BigInteger),  # the operation that stood against it; None: it took effect
    Column("undoes", BigInteger),  # the operation whose inverse it is
    Column("model", String(100)),  # which model said so; None: not one, or the one of the call
)
Index("ix_profile_ops_customer_id", profile_ops.c.customer, profile_ops.c.id)

# The memory step of a call: what was intended and what became of it.
memory_steps = Table(
    "memory_steps",
    metadata,
    Column("call_id", String(40), ForeignKey("calls.id"), primary_key=True),
    Column("state", String(10), nullable=False),  # learning.states.StepState
    Column("attempt", Integer, nullable=False),  # the effect of an earlier one is refused
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("strategy", String(10), nullable=False),  # learning.strategy.Strategy
    Column("model", String(100), nullable=False, server_default=""),
    Column("base_op", BigInteger, nullable=False),  # profile_ops.id that the model was shown
    Column("conversation_id", String(80)),  # in Letta, of this attempt, to be deleted; None: there is none
    Column("due_ms", BigInteger, nullable=False),  # not before this, while it waits
    Column("deadline_ms", BigInteger, nullable=False),  # the model is not asked beyond this
    Column("learnt", Integer, nullable=False, server_default="0"),  # operations that took effect
    Column("refused", Integer, nullable=False, server_default="0"),  # what the model gave and was not taken
    Column("refusals", Text, nullable=False, server_default="[]"),  # JSON: each with the reason
    Column("why", Text, nullable=False, server_default=""),  # why it waits or failed
    Column("at_ms", BigInteger, nullable=False),  # when it came into this state
)
Index("ix_memory_steps_state", memory_steps.c.state)

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

# What we know of Letta. All of it can be lost: agents are found again by tag, conversations by the call in their title.
letta_agents = Table(
    "letta_agents",
    metadata,
    Column("customer", String(200), ForeignKey("customers.key"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("agent_id", String(80)),  # None: to be looked up by tag
    Column("model", String(300), nullable=False, server_default=""),  # what the agent answers operators with
    Column("description", Text, nullable=False, server_default=""),  # what operators see in Letta's list
    Column("seen_op", BigInteger, nullable=False, server_default="0"),  # profile_ops.id that the blocks include
    Column("checked_ms", BigInteger, nullable=False, server_default="0"),  # when the blocks were last read
)
Index("ix_letta_agents_checked_ms", letta_agents.c.checked_ms)

letta_blocks = Table(
    "letta_blocks",
    metadata,
    Column("customer", String(200), ForeignKey("customers.key"), primary_key=True),
    Column("block", String(50), primary_key=True),  # profile.Block
    Column("block_id", String(80), nullable=False),
    Column("exchanged", Text),  # the text both sides last had; None: never exchanged with this agent
    Column("sending", Text),  # the text of a put whose end we may not have seen
    Column("refused", Text, nullable=False, server_default=""),  # lines of an edit in Letta that we could not take
)

letta_conversations = Table(
    "letta_conversations",
    metadata,
    Column("call_id", String(40), ForeignKey("calls.id"), primary_key=True),
    Column("attempt", Integer, nullable=False, server_default="1"),  # 2: the first one did not match the store
    Column("conversation_id", String(80)),  # None: to be looked up by its title, else created
    Column("mode", String(10), nullable=False),  # sync.states.Mode
    Column("mirrored_seq", Integer, nullable=False, server_default="0"),  # all rows up to it are confirmed
    Column("failures", Integer, nullable=False, server_default="0"),  # how many of its conversations did not match
    Column("last_error", Text, nullable=False, server_default=""),
    Column("agent_id", String(80)),  # the desk's agent, whose conversation it is; None: the customer's own
)

letta_batches = Table(
    "letta_batches",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("call_id", String(40), ForeignKey("calls.id"), nullable=False),
    Column("conversation_id", String(80), nullable=False),
    Column("first_seq", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),  # the row whose marker settles the batch
    Column("state", String(10), nullable=False),  # sync.states.BatchState
    Column("deadline_ms", BigInteger, nullable=False),  # the request is over by then, one way or the other
    Column("absent_ms", BigInteger),  # since when look-ups say that it is not there; None: they have not
)
Index("ix_letta_batches_call_id_state", letta_batches.c.call_id, letta_batches.c.state)

# What does not go to Letta until a person decides.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("call_id", String(40), ForeignKey("calls.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),  # the turn; 0: the whole call
    Column("state", String(10), nullable=False),  # sync.states.LetterState
    Column("why", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),  # when it came into this state
)

# How the mirroring is getting on, for those who look: `letta`, and each customer who cannot be mirrored now.
sync_status = Table(
    "sync_status",
    metadata,
    Column("name", String(250), primary_key=True),  # `letta`, `learning` (since when it is on) or `customer:<key>`
    Column("state", String(10), nullable=False),  # sync.states.Outage
    Column("why", Text, nullable=False, server_default=""),
    Column("since_ms", BigInteger, nullable=False),  # when this state began
    Column("at_ms", BigInteger, nullable=False),  # when a syncer last said so
)

# Who was forgotten, by hash: what is older than the generation and turns up later is deleted.
forgotten = Table(
    "forgotten",
    metadata,
    Column("customer", String(16), primary_key=True),  # identity.hashed of the key
    Column("generation", Integer, nullable=False),  # the next call of this customer has it
    Column("letta", String(10), nullable=False),  # forget.InLetta
    Column("to_do", Text, nullable=False, server_default=""),  # JSON of what a crash would leave undone; "" when done
    Column("empty_ms", BigInteger),  # since when Letta lists no agent; None: it does, or nobody has looked
    Column("checked_ms", BigInteger, nullable=False, server_default="0"),  # when Letta was last asked
    Column("at_ms", BigInteger, nullable=False),
)

# Calls of customers who were forgotten: what turns up of them later is not kept.
forgotten_calls = Table("forgotten_calls", metadata, Column("call_id", String(40), primary_key=True))

# Desks that voicectl was told of: each speaks for an agent that somebody keeps in Letta.
desks = Table(
    "desks",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("title", String(100), nullable=False),
    Column("agent_id", String(80), nullable=False),
    Column("added_ms", BigInteger, nullable=False),
)

# Agents of desks, as the syncer last read them. One that no desk speaks for any more stays with its id alone: calls may
# lie in it.
desk_agents = Table(
    "desk_agents",
    metadata,
    Column("agent_id", String(80), primary_key=True),
    Column("name", String(200), nullable=False, server_default=""),
    Column("system", Text, nullable=False, server_default=""),
    Column("no_calls", String(200), nullable=False, server_default=""),  # why calls cannot be its conversations
    Column("revision", Integer, nullable=False, server_default="0"),  # grows with each change of system and blocks
    Column("read_ms", BigInteger, nullable=False, server_default="0"),  # when Letta last gave it
    Column("gone_ms", BigInteger),  # since when Letta says that it is not there
)
desk_blocks = Table(
    "desk_blocks",
    metadata,
    Column("agent_id", String(80), primary_key=True),
    Column("label", String(200), primary_key=True),
    Column("text", Text, nullable=False),
)

# What the team says of a desk, a version a row; the latest holds.
desk_policies = Table(
    "desk_policies",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("desk", String(100), nullable=False),
    Column("text", Text, nullable=False),
    Column("source", String(20), nullable=False),  # policies.Source
    Column("at_ms", BigInteger, nullable=False),
)
Index("ix_desk_policies_desk_id", desk_policies.c.desk, desk_policies.c.id)

# Its block in Letta, shared by agents; the columns mean what those of letta_blocks do.
desk_policy_blocks = Table(
    "desk_policy_blocks",
    metadata,
    Column("name", String(100), primary_key=True),  # of the desk
    Column("block_id", String(80)),
    Column("exchanged", Text),
    Column("sending", Text),
    Column("refused", Text, nullable=False, server_default=""),
)

# Which policy a customer's agent shows: that of the desk last called, as an agent has one block of a label.
letta_policies = Table(
    "letta_policies",
    metadata,
    Column("customer", String(200), ForeignKey("customers.key"), primary_key=True),
    Column("agent_id", String(80), nullable=False),
    Column("block_id", String(80), nullable=False),
)

# What happened to rooms, until it is pruned (memory/room_log.py).
room_log = Table(
    "room_log",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", String(20), nullable=False),  # room_log.RoomEvent
    Column("room", String(300), nullable=False),
    Column("ours", String(200), nullable=False),  # identity of who noted it; "": nobody's
    Column("our_fence", BigInteger, nullable=False),
    Column("theirs", String(200), nullable=False),
    Column("their_fence", BigInteger, nullable=False),
    Column("why", String(500), nullable=False),
)
Index("ix_room_log_room_id", room_log.c.room, room_log.c.id)
Index("ix_room_log_at_ms", room_log.c.at_ms)

# How often each event was noted: a counter must not go down when rows are pruned or a customer is forgotten.
room_counts = Table(
    "room_counts",
    metadata,
    Column("event", String(20), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

# Beside these, migration 0007 makes what finds words in turns, in each database's own way: in SQLite the FTS5 table of
# this name with its shadows, in PostgreSQL the column `turns.words` with its index. memory/search.py reads it, triggers
# write it.
TURN_INDEX = "turn_index"
