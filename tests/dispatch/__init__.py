"""tests.dispatch"""
