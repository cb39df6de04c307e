"""What is asked: experiment files as validated values, and their configurations; no torch, no network."""
