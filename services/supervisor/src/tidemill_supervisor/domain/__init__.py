"""Decisions of a Worker: pure and synchronous."""
