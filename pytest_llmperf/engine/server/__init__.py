"""Client of OpenAI-compatible servers, and the load that it puts on them."""
