"""tests.papers"""
