"""Starts the worker as a script: ``python -P _child.py PATH…``, where the PATHs are the parent's import path.

The worker needs this folder's modules, errors and msgspec, but not the package's own ``__init__``, which imports the
HTTP client and more: an empty stand-in for it saves a quarter of a second before the first token.
"""

import sys
import types
from pathlib import Path

if __name__ == "__main__":
    sys.path.extend(path for path in sys.argv[1:] if path not in sys.path)
    package = Path(__file__).resolve().parents[2]
    for name, folder in (("tailrace", package), ("tailrace.backends", package / "backends")):
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
    from tailrace.backends.embedded.worker import main

    main()
