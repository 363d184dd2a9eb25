"""The first commit that made tests slower: the search, what it may ask, and what it remembers."""
