"""tests.views"""
