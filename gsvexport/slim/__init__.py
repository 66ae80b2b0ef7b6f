"""Smaller networks from a teacher: what a recipe asks for, the teacher's data, cutting, and recovery by distillation.

Needs torch; nothing but the command line imports it, and only when it is asked for.
"""
