"""The gateway on a server of its own: uvicorn, its sockets, its logging."""
