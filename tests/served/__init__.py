"""tests.served"""
