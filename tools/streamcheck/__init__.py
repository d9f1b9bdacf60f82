"""Judges a stream of chat completion chunks as it stands on the wire. The command line is test_streaming.py.

    request -> capture -> frames -> stream -> checks -> report
                                           -> timing -> compare, plot

capture reads bytes and notes when each came; everything after it is pure. checks.py is the table of what is checked.
"""
