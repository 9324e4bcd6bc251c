"""Compiled kernels and the array types they work on. Nothing here knows what abuse is."""

from streamdetect.stale_kernels import forget_stale_kernels

forget_stale_kernels()
