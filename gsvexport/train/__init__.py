"""How the demo voice is made: from Debian's festival, in two hours or so on two processor cores.

`python -m gsvexport.train` runs every step and continues where it was stopped. docs/demo-voice.md says what
comes out and how good it is.
"""
