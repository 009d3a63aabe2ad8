"""Workers whose user code runs in containers of a Docker Engine."""
