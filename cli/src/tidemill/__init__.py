"""The `tidemill` command: the whole platform on this machine, and its client."""
