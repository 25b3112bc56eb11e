"""Ollama's prompt templates: what they make of a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.protocols.ollama.template import TemplateError, render

CHATML = """{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
<|im_start|>{{ .Role }}
{{ .Content }}{{ if not (and $last (eq .Role "assistant")) }}<|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}"""
LEGACY = """{{ if .System }}<|system|>
{{ .System }}</s>
{{ end }}{{ if .Prompt }}<|user|>
{{ .Prompt }}</s>
{{ end }}<|assistant|>
{{ .Response }}</s>
"""
ASK = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
SAID = [*ASK, {"role": "assistant", "content": "A"}]


@pytest.mark.parametrize(
    ("template", "messages", "prompt"),
    [
        (
            CHATML,
            ASK,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            CHATML,
            SAID,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA",
        ),
        (LEGACY, ASK, "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n"),
        (LEGACY, SAID, "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA"),
        (
            LEGACY,
            [*SAID, {"role": "user", "content": "V"}],
            "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n",
        ),
        ("{{ .Prompt }}", SAID, "UA"),
        ("[{{ .System }}]{{ .Prompt }}", ASK, "[S]U"),
    ],
)
def test_conversations(template: str, messages: list[dict[str, Any]], prompt: str) -> None:
    """Templates by messages, and older ones by turns, the last of which ends where its response does."""
    assert prompt == render(template, messages)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a {{- /* no */ -}} b{{ .Messages | len }}", "ab2"),
        ('{{ with .System }}{{ . }}{{ else }}-{{ end }}{{ len .Messages }}{{ "}}" }}{{ `{{` }}', "S2}}{{"),
        ("{{ range .Messages }}{{ if eq .Role `user` }}{{ continue }}{{ end }}{{ .Role }}{{ end }}", "system"),
        ("{{ range $m := .Messages }}{{ $m.Role }}{{ break }}{{ end }}", "system"),
        ("{{ range .Messages.X }}{{ else }}none{{ end }}", TemplateError),
        ("{{ range .Tools }}{{ else }}none{{ end }}{{ len .Messages }}", "none2"),
        ("{{ $x := 1 }}{{ if .Messages }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if .Messages }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        ("{{ if false }}{{ else if not .Messages }}b{{ else }}c{{ end }}", "c"),
        ('{{ printf "%s-%d%%" .System (len .Messages) }}', "S-2%"),
        ("{{ (index .Messages 1).Role }}", TemplateError),
        ("{{ with index .Messages 1 }}{{ .Role }}{{ end }}", "user"),
        ('{{ or .Tools "x" }}{{ and .Messages "y" }}{{ eq .System "T" "S" }}', "xytrue"),
        ("{{ $.IsThinkSet }}{{ .Think }}{{ .ThinkLevel }}{{ len .Messages }}", "truetruehigh2"),
        ("{{ currentDate }}{{ len .Messages }}", "2026-11-302"),
        ("{{ .Messages.Foo }}", TemplateError),
        ("{{ foo }}", TemplateError),
        ("{{ if .Messages }}", TemplateError),
        ("{{ .Messages", TemplateError),
        ("{{ end }}", TemplateError),
        ("{{ .Messages | }}", TemplateError),
        ("{% for m in messages %}", TemplateError),
        ('{{ template "x" . }}', TemplateError),
        ("{{ if 1 }}" * 100, TemplateError),
        ("{{ ((((", TemplateError),
        ('{{ printf "%05d" 3 }}', TemplateError),
        ("{{ slice 1 2 }}", TemplateError),
    ],
)
def test_language(template: str, text: Any) -> None:
    """What templates use of Go's language; anything else is said to be unknown, not rendered wrongly."""
    if text is TemplateError:
        with pytest.raises(TemplateError):
            render(template, ASK)
    else:
        assert text == render(template, ASK, think="high", date="2026-11-30")


def test_tools_and_calls() -> None:
    """Printed, they are their JSON; maps of the user's own keep their keys."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"city": {"type": "string"}}}}}
    call = {"function": {"name": "f", "arguments": {"city": "上海"}}}
    template = (
        "{{ range .Tools }}{{ .Function }}{{ range $k, $v := .Function.Parameters.Properties }}|{{ $k }}:{{ $v.Type }}"
        "{{ end }}{{ end }}{{ range .Messages }}{{ range .ToolCalls }}|{{ .Function.Name }}"
        "{{ json .Function.Arguments }}"
        "{{ end }}{{ end }}"
    )

    assert (
        render(template, [{"role": "assistant", "tool_calls": [call]}], tools=[tool])
        == '{"name":"f","parameters":{"properties":{"city":{"type":"string"}}}}|city:string|f{"city":"上海"}'
    )


def test_messages_of_one_role_are_joined() -> None:
    """As Ollama does it, but for the results of tools."""
    messages = [
        {"role": role, "content": text} for role, text in (("user", "a"), ("user", "b"), ("tool", "c"), ("tool", "d"))
    ]

    assert render("{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}", messages) == "user:a\n\nb;tool:c;tool:d;"
