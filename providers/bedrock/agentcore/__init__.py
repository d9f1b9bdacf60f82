"""Amazon Bedrock AgentCore: harnesses, and runtimes with an app of one's own."""
