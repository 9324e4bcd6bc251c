"""Labelled traffic: honest people, attackers and look-alikes, written as request events of the public format."""

import streamdetect.kernels  # noqa: F401  # compiled code of ours, too: what is stale of it goes with the others
