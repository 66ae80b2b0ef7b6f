"""What is done on a device, or for it, after the build."""
