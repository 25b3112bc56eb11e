"""A Python function as a tool. The model must know tools: with Ollama, for example qwen3:0.6b."""

import os

import tailrace

MODEL = os.environ.get("TAILRACE_MODEL", "qwen3:0.6b")


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


messages: list[dict[str, object]] = [{"role": "user", "content": "What is 10 plus 32? Use the tool."}]
try:
    answer = tailrace.chat(MODEL, messages, tools=[add])
except tailrace.ResponseError as error:  # the model is not there, or knows no tools
    raise SystemExit(f"{error}\nTry another with TAILRACE_MODEL.") from None

for call in answer.message.tool_calls or ():
    result = add(**call.function.arguments)
    print(f"{call.function.name}({dict(call.function.arguments)}) = {result}")
    messages += [
        answer.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_name": call.function.name, "tool_call_id": call.id, "content": str(result)},
    ]
if answer.message.tool_calls:
    print(tailrace.chat(MODEL, messages).message.content)
else:
    print(answer.message.content)
