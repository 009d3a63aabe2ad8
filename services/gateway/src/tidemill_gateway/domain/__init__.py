"""Decisions of the gateway; synchronous and pure."""
