"""Labelled traffic: honest people, attackers and look-alikes, written as request events of the public format."""
