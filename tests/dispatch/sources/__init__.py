"""tests.dispatch.sources"""
