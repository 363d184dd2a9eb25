"""Inference engines: the protocol they follow, one file per engine, and their worker process.

Everything a worker imports (``worker``, ``base``, ``request``, ``generation``, ``instruments``,
``app``, ``llama_cpp`` and the other ``llama_`` modules, ``load_report``, ``load_facts``, ``wire``,
``orphan``, ...) uses the standard library and the engine's own package only, so that a worker
starts in any environment that has the engine, whether or not the plugin is installed there.
"""
