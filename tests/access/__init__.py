"""tests.access"""
