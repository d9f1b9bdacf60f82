"""Bedrock's agents."""
