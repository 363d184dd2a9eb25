"""Results of other tools as stored sessions: llama-bench, vLLM, SGLang, GuideLLM and others.

``run.import_files(request)`` reads result files, stores them and returns what became of each field.
On the way ``read_file`` parses a file, a tool's own module (one of ``tools.TOOLS``) turns it into
runs, and ``sessions`` makes sessions of the runs. One run is one sample, however many requests it
made: the requests of a run share its machine, its server and its hour.
"""
