"""Access: allowed host names and origins, API keys, and limits of a request."""
