"""tests.dispatch.routing"""
