"""Opening, naming, parsing and checking what strangers made."""
