"""Phrase packs: fixed sentences and templates, read into phones once, for devices that read no text.

`spec.py` reads what somebody wrote, `compiling.py` makes phones of it, `pack.py` is the file that a device opens, and
`making.py` does all of it for a voice.
"""
