"""Ollama's protocol: requests, the decoder of what a server answers, the encoder of what ours does."""
