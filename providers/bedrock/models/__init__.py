"""Bedrock's models, through Converse."""
