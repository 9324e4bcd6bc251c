"""Runs detectors over simulated scenarios and writes what came out: plan, run, grade, table. See ``evaluate.py``."""
