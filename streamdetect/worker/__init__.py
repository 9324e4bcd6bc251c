"""The live program: the only place that knows Faust."""
