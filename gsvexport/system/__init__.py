"""What differs between operating systems: locks, files that are open, and names."""
