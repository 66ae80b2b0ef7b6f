"""A release: every voice for every target, in one folder that is whole or not there."""
