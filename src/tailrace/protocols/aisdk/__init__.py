"""The Vercel AI SDK's protocol: its requests, and runs as its UI message streams."""
