"""The figures that the issues ask for, measured by one command: ``python -m bench`` (see README.md)."""
