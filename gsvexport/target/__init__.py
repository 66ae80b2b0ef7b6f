"""Everything that knows what a device is."""
