"""Conversations: the chat and its history, the tools that a model may call, and the export of it all."""
