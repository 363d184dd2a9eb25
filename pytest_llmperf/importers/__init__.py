"""Results of other tools as stored sessions: llama-bench, vLLM, SGLang, GuideLLM and others.

``run.import_files(request)`` reads result files, stores them and returns what became of each field.
On the way ``read_file`` parses a file, a tool's own module (one of ``tools.TOOLS``) turns it into
runs, and ``sessions`` turns the runs into sessions. One run is one sample, however many requests
it made: all requests of a run share a machine, a server and an hour.
"""
