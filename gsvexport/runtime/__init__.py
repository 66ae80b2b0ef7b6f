"""The device side: an exported voice speaks with numpy and one backend's runtime, nothing else."""
