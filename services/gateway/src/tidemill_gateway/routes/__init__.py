"""HTTP: the hot routes as plain ASGI, everything else through FastAPI."""
