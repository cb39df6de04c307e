"""What is kept: run directories, results, and published runs."""
