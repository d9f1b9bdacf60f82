"""tests.schemas"""
