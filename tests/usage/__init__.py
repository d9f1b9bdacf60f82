"""tests.usage"""
