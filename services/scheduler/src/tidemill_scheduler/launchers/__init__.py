"""Adapters that start and stop Workers, one module a technology."""
