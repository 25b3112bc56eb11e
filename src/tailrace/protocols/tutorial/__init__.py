"""The protocol of the tutorial's route."""
