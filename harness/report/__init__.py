"""What people look at. This room reads results; it runs nothing."""
