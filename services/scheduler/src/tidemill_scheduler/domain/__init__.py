"""Decisions of the scheduler: synchronous and pure."""
