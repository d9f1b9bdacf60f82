"""tests.providers.bedrock"""
