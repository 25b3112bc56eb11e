"""The gateway: the streaming layer behind HTTP, for browsers, programs and other machines."""
