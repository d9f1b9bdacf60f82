"""tests.voice"""
