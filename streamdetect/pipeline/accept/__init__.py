"""Bytes become columns or dead letters; repeats and times are judged."""
