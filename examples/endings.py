"""Every ending is told apart, and the partial answer is never lost.

A scripted server plays the accidents; `tailrace.testing` is there for your tests too.
"""

import tailrace
from tailrace.testing import FakeOllama, cut, done, error, fin, say, stall

with FakeOllama(models=["demo"]) as server:
    client = tailrace.Client(server.url, timeout=tailrace.Timeouts(idle=1))
    accidents = {
        "the model finishes": [say("One ", "two ", "three."), done()],
        "it meets its token limit": [say("One ", "two "), done(reason="length")],
        "the server reports an error": [say("One ", "two "), error("out of memory")],
        "the connection breaks": [say("One ", "two "), cut()],
        "the stream just stops": [say("One ", "two "), fin()],
        "the model stalls": [say("One ", "two "), stall()],
    }
    for name, script in accidents.items():
        server.script(*script)
        stream = client.chat("demo", [{"role": "user", "content": "Count."}], stream=True)
        try:
            reply = stream.wait()
            print(f"{name}: {reply.outcome}, {reply.text!r}")
        except tailrace.TailraceError as accident:
            print(f"{name}: {accident.reply.outcome}, {accident.reply.text!r} ({type(accident).__name__})")
