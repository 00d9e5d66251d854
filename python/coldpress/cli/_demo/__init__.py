"""The demo: documentation of this Python installation, embedded, indexed, classified and reported."""
