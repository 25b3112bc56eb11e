"""An answer that follows a JSON Schema."""

import json
import os

import tailrace

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

schema = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "length_km": {"type": "integer"}},
    "required": ["name", "length_km"],
}
answer = tailrace.chat(
    MODEL,
    [{"role": "user", "content": "Name a river and its length in km, as JSON."}],
    format=schema,
    options={"temperature": 0, "num_predict": 100},
)
print(json.loads(answer.message.content or "{}"))
