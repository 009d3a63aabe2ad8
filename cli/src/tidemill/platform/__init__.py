"""The whole platform on this machine: its servers and components as child processes."""
