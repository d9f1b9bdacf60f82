"""tests.emulators.bedrock"""
