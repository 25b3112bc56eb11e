"""Documents to render: what models write, and what nobody should."""

from __future__ import annotations

ENGLISH = """\
# How streams work

A stream is a *sequence* of **chunks**; each one is `small`. It may be long, and it may
go on over several lines with ~~mistakes~~ corrections, [links](https://example.org/a?b=c) and <https://example.org>.

Setext heading
==============

Another one
---

1. First, open it.
2. Then read:
   - one chunk
   - another chunk, with a line so long that it has to be wrapped on any terminal that is narrower than this one is

   A paragraph inside of the second item.

     - deeper
3. Close it.

10) Ten
11) Eleven

> A quote with **bold** text
> that goes on
lazily.
>
> > nested, with a list
> > - in it
> >   ```sh
> >   ls -l
> >   ```

- [ ] open task
- [x] done task

* * *

```python title="a.py"
def read(stream):
    \"\"\"Reads.

    More of the docstring.
    \"\"\"
    for chunk in stream:
        yield chunk  # one `by` one

```

The end.
"""

CHINESE = """\
## 概述

**注意：**后面的文字是普通的。这是一段很长的中文，用来检查按显示宽度换行时，标点符号不会出现在行首，而且每一行都不会超过终端的宽度（包括全角括号）。
第二行是软换行，仍然应当是单独的一行。

床前明月光，
疑是地上霜。

1. **第一点：**流式输出（streaming）很重要；
2. **“第二点”**取消必须真正停止模型。
   - 子项：`cancel()` 立即返回
   - 子项二

| 参数 | 说明 | 默认值 |
|:-----|:----:|-------:|
| `temperature` | 温度，越高越随机 | 0.8 |
| `num_ctx` | 上下文长度 | 4096 |
| 很长的参数名称 | 这一格的文字很长很长很长很长很长很长，需要在格子里面换行才放得下 | 无 |

```c
/* 多行
   注释 */
int main(void) { return 0; }
```

> 引用：*斜体*和**粗体**，以及 https://example.org/路径

完。
"""

NASTY = [
    "",
    "\n\n\n",
    "a",
    "2",
    "1. a\n2. b\n\n3. c",
    "- a\n\n- b\n\n\n- c\n* d\n+ e",
    "- a\n - b\n  - c\n   - d\n    - e",
    "-\n\n  a",
    "- \n  a\n-\n- b",
    "- - - a\n- > - b",
    "* a\n  *\n  * b\n***\n",
    "> a\n> - b\nlazy\n\n> c\n===",
    "> ```\n> a\nb",
    "```\nnever closed\n\n  x",
    "````md\n```\n````\n~~~ ~~\n~~~\n",
    "``` a`b\n",
    "    indented\n\n\n      code\n\ntext\n    no code",
    "\tindented\n\n-\ttab\n\n\tin item\n",
    "a\n-\nb\n- \nc\n---\n",
    "a  \nb\\\nc",
    "# \n## x ##\n### y #z\n####### no\n#no",
    "| a | b |\n|---|---|\n| 1 |\n| 1 | 2 | 3 |\n\\| x\n# h\n",
    "p\n| a |\n|---|\n| b |\n> q\n",
    "| a |\n|---|---|\n",
    "- | a |\n  |---|\n  | b |\n- x\n",
    "a | b\n--|--\nc | d\\|e\n",
    "<div>\n**bold**\n</div>\n\n<b>x</b> &amp; &#27;[31m",
    "1. a\n\n   ```py\n   x\n\n   y\n   ```\n2. b",
    "text\n2. no list\n1. list\n",
    "***\n---\n___\n- - -\n",
    "a\r\nb\rc\r\n\r\nd\r",
    "　　全角缩进\n\u2028x\x0by\x0cz",
    "**a\n\n**b",
    "*a `b* c` **d*e**",
    "[a](javascript:alert(1)) ![img](http://x/y.png) [b](<u v>)",
    "👩‍👩‍👧 ❤️ 🇨🇳 é",
]

DOCUMENTS = [ENGLISH, CHINESE, ENGLISH + "\n" + CHINESE, *NASTY]
