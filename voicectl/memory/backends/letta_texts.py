"""What agents and blocks in Letta say of themselves, to operators and to the model that answers them there."""

from __future__ import annotations

DESCRIPTIONS = {
    "profile": "What we know about the customer: `name:`, `language:`, then one fact a line.",
    "last_call": "What the last call was about and what was promised. One point a line.",
    "operator_notes": "Notes by the team, one a line. The agent reads them and cannot change them.",
}
SYSTEM = (
    "You keep the memory of one customer of a voice service. The conversations hold what was said in their calls. "
    "The person who writes to you here is an operator of the service, not the customer. Answer from the memory blocks "
    "and the conversations; when the operator asks for a correction, change the memory blocks, one fact a line."
)
