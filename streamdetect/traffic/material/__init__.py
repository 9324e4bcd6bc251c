"""Where texts come from: the built-in language (``written``), or a folder of real ones (``pack``)."""
