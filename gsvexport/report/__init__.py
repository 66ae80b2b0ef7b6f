"""What a person or a CI job reads: the page with pictures and sound, the terminal's table, two artifacts compared."""
