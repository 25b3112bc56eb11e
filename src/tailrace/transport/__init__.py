"""What carries bytes to model servers: connections, an HTTP client on them, and input and output in batches.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
