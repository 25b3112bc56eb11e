"""Which upstream a run goes to, and in which order."""
