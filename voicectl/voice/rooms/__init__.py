"""Rooms: who may speak (registry, guard), and what happens when nobody does (reconciler). LiveKit's API is in admin."""
