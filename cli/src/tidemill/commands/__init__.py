"""The commands, one module per subject; each is a thin function over a client."""
