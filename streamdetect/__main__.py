"""``python -m streamdetect`` is the ``streamdetect`` command."""

from streamdetect.cli import main

if __name__ == "__main__":
    main()
