"""Compiled kernels and the array types they work on. Nothing here knows what abuse is."""
