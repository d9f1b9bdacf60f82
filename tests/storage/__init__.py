"""tests.storage"""
