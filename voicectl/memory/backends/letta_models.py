"""Model servers as Letta knows them: registered under a name, at their present address.

Not here: which ones, and what a failure means (letta.py).
"""

from __future__ import annotations

from typing import Any


def register(client: Any, name: str, url: str, key: str, timeout_s: float) -> bool:
    """Register a model server with Letta, or correct its address; may be repeated.

    Args:
        client: The client of Letta's package.
        name: Under what name.
        url: Its address, as Letta reaches it.
        key: Its key.
        timeout_s: How long Letta may take to ask it for its models.

    Returns:
        Whether Letta could list its models now.
    """
    present: Any = client.get("/v1/providers/", cast_to=object, options={"params": {"name": name}})
    body: dict[str, object] = {"api_key": key, "base_url": url}
    options: Any = {"timeout": timeout_s}
    if present:
        before, provider_id = present[0].get("last_synced"), present[0]["id"]
        client.patch(f"/v1/providers/{provider_id}", body=body, cast_to=object)
    else:
        new = {**body, "name": name, "provider_type": "openai"}
        before, provider_id = None, client.post("/v1/providers/", body=new, cast_to=object, options=options)["id"]
    after: Any = client.patch(f"/v1/providers/{provider_id}/refresh", cast_to=object, options=options)
    return bool(after.get("last_synced") and after["last_synced"] != before)
