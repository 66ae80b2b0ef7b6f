"""Repositories of artifacts: publishing to them, pulling from them, and which artifact a device wants."""
