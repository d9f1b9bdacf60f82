"""tests.dispatch.resilience"""
