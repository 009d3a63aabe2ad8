"""Adapters that turn providers' notifications into Events, one module a technology; `app` holds the table of them."""
