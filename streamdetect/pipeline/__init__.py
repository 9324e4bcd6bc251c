"""The detector as pure functions of batches and event time: no clock, no I/O, no async, no randomness, no logging.

Listing order is not import order here; the path of an event is
accept > accounts > associations > decisions > enforcement, and ``topology`` prints it.
"""
