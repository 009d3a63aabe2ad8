"""Decisions of the storage-bridge: pure, synchronous, without clock or I/O."""
