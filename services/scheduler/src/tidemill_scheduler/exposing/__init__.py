"""Exposed Services: long-lived instances of a Service's own server, kept running beside the Workers."""
