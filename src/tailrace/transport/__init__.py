"""What carries bytes to model servers: connections, an HTTP client on them, and input and output in batches."""
