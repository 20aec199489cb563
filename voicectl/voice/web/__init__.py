"""The control plane: token endpoint, health, the page. Imports livekit.api only, never livekit.agents."""
