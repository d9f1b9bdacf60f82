"""tests.dispatch.transforms"""
