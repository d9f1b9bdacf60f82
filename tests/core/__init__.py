"""tests.core"""
