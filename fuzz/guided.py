"""One target under atheris: `python -m fuzz.guided TARGET` and libFuzzer's own options. `fuzz.running` starts it."""

from __future__ import annotations

import sys

import atheris

from fuzz.modules import MODULES

if __name__ == "__main__":
    with atheris.instrument_imports(include=list(MODULES)):
        from fuzz.holding import shallow
        from fuzz.targets import TARGETS
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    with shallow():
        atheris.Fuzz()
