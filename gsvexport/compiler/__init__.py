"""Turns a voice into a source and a source into artifacts: plan, store, lower, pack."""
