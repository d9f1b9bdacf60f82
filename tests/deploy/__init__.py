"""tests.deploy"""
