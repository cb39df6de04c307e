"""Who does the work, and what happens when it dies: runner, workers, engines."""
