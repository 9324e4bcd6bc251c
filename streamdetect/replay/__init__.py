"""The same pipeline over history, without a broker: sources, order, rounds, results."""
