"""What exactly that is on this machine: models, corpora, batches, and the ids of cells."""
