"""tests.tools"""
