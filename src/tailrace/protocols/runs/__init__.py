"""Our own protocol: what a run is asked for with, and its events."""
