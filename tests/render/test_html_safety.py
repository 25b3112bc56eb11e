"""Whatever a model says, its HTML is of the elements and attributes of our list, at each moment of the stream."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.browser import Browser
from tests.render.html_tree import ATTRIBUTES, Element, checked
from tests.render.structure import pieces

from tailrace.render.html import HtmlStream, render
from tailrace.render.markup import escape, language, link, tag

# What is shown as it stands.
MARKUP = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//x.y/z.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script/src=data:,alert(1)>",
    "<img src=x onerror=alert(1)>",
    "<img src='x' onerror='alert(1)'",
    '<img src="x" onerror="alert(1)"/>',
    "<image/src/onerror=prompt(8)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    '<svg><a xlink:href="javascript:alert(1)"><text x="20" y="20">x</text></a></svg>',
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><style><img title='</style><img src onerror=alert(1)>'></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=1 onerror=alert(1)>'>",
    "<math><maction actiontype='statusline' xlink:href='javascript:alert(1)'>x</maction></math>",
    "<body onload=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<button formaction=javascript:alert(1)>x",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src onerror=alert(1)>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<base href=//x.y/>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<link rel=stylesheet href=//x.y/z.css>",
    "<style>@import '//x.y/z.css';</style>",
    "<div style=background:url(//x.y/z)>x</div>",
    '<div style="width:expression(alert(1))">x</div>',
    "<a href=javascript:alert(1)>x</a>",
    "<a id=config name=config>x</a>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea></textarea><script>alert(1)</script>",
    "<title></title><script>alert(1)</script>",
    "<plaintext>",
    "<xmp><script>alert(1)</script></xmp>",
    "<!--><script>alert(1)</script-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<!DOCTYPE html><html>",
    "<?xml version='1.0'?><x/>",
    "</p></div></article><script>alert(1)</script>",
    "</code></pre><script>alert(1)</script>",
    "</td></tr></table><script>alert(1)</script>",
    "<x onclick=alert(1)>x</x>",
    "<p/onmouseover=alert(1)>x",
    '"><script>alert(1)</script>',
    "'-alert(1)-'",
    "{{constructor.constructor('alert(1)')()}}",
    "<div hx-get=//x.y hx-trigger=load>x</div>",
    "<div x-data x-init=alert(1)>x</div>",
    "<scr",
    "<",
]
# What Markdown makes something of, and may make nothing dangerous of.
LINKS = [
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;&#x61;vascript:alert(1))",
    "[x](java&#10;script:alert(1))",
    "[x](java&Tab;script:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](< javascript:alert(1)>)",
    "[x](\x01javascript:alert(1))",
    "[x](<\x00javascript:alert(1)>)",
    "[x](javascript\\:alert(1))",
    "[x](javascript://x.y/%0aalert(1))",
    "[x](javascript&#58this;alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](data:image/svg+xml,<svg/onload=alert(1)>)",
    "[x](data:image/png;base64,AAAA)",
    "[x](file:///etc/passwd)",
    "[x](blob:http://x/y)",
    "[x](view-source:http://x)",
    "[x](intent://x#Intent;end)",
    "[x](ms-msdt:/id)",
    "[x](tel:1)",
    "[x](//x.y/z)",
    "[x](\\\\x.y\\z)",
    "[x](/\\x.y)",
    "[x](https:x.y)",
    "[x](https:/\\x.y)",
    "[x](./y)",
    "[x](?y)",
    "[x](#y)",
    "[x]()",
    '[x](http://y"onmouseover="alert(1))',
    "[x](<http://y\"onmouseover='alert(1)'>)",
    "[x](http://y 'a\" onmouseover=alert(1) b=\"')",
    '[x](http://y "><script>alert(1)</script>")',
    "[<script>alert(1)</script>](http://y)",
    "[x](http://\u202egnp.y)",
    "[x](http://y/\ud800)",
    "[x](http://[::1]:80/)",
    "[x](http://xn--/)",
    "[x](mailto:a@b?subject=<script>)",
    "<javascript:alert(1)>",
    "<javascript&colon;alert(1)>",
    "<data:text/html,x>",
    '<http://x/"onclick=alert(1)>',
    "<http://x/'onclick=alert(1)//>",
    "<x:y>",
    '<a@b.c"onclick=alert(1)>',
    'http://x"onclick=alert(1)//',
    "http://x/'onclick='alert(1)",
    "http://x/<script>alert(1)</script>",
    "http://x/&quot;onclick=alert(1)",
    "javascript:http://x/%0aalert(1)",
    "![x](http://x.y/z.png?secret=1)",
    '![x](http://x.y/"onerror="alert(1))',
    '![x"onerror="alert(1)](http://x.y/z)',
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml;base64,AAAA)",
    "![<img src=x onerror=alert(1)>](http://x)",
    "![![x](http://a)](http://b)",
    "[![x](http://a)](javascript:alert(1))",
    "[![x](javascript:alert(1))](http://a)",
    "[[x](http://a)](http://b)",
    "![x]",
    "[x][r]\n\n[r]: javascript:alert(1)",
    "[r]: javascript:alert(1)\n\n[x][r]",
    "[r]: JAVASCRIPT&colon;alert(1)\n\n[r]",
    "[r]: <data:text/html,x> 'y'\n\n![x][r]",
    "[r]: http://x \"onclick='alert(1)'\"\n\n[r]",
    '[r]: http://x/"onclick=alert(1)\n\n[r]',
    "[<script>]: http://x\n\n[<script>]",
    '```"onclick=alert(1)\nx\n```',
    "```<script>\nalert(1)</script>\n```",
    '```x" onload="alert(1)\n```',
    "``` language-x joined\nx\n```",
    "```html\n<script>alert(1)</script>\n</code></pre><script>\n```",
    "    </code></pre><script>alert(1)</script>",
    "`</code><script>alert(1)</script>`",
    "# <img src=x onerror=alert(1)>",
    "> <script>\n> alert(1)\n> </script>",
    "- <script>\n- alert(1)</script>",
    "- [x] <img src=x onerror=alert(1)>",
    "|<script>|\n|-|\n|</td><script>alert(1)</script>|",
    "|a|\n|-|\n|[x](javascript:alert(1))<br onload=alert(1)><br/>|",
    "<br onload=alert(1)> <br/ > <br>",
    "**<script>**alert(1)*</script>*",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&amp;lt;script&amp;gt;",
    "\\<script\\>alert(1)",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "\ufeff<script>alert(1)</script>",
    "\u202e<script>\u2066",
    "&#x202e;&#0;&#xD800;&#x1b;[2J",
    "\x1b]8;;javascript:alert(1)\x07x",
    "\ud83d\ude00 \ud800<\udfff>",
    "99999999999. <script>\n999999999. x",
    '1. x\n\n" onclick="alert(1)\n2. y',
]


def streamed(text: str, size: int) -> Element:
    """The tree of a text that came in pieces; whatever was shown meanwhile was held against the list."""
    stream = HtmlStream(limit=40)
    out: list[str] = []
    for part in pieces(text, size):
        out += stream.feed(part)
        checked("".join(out))
        checked(stream.tail)
    out += stream.finish()
    checked(render(text))
    return checked("".join(out))


@pytest.mark.parametrize("payload", MARKUP)
def test_x1_markup_is_text(payload: str) -> None:
    """HTML that a model writes is shown as it stands, wherever tokens end in it."""
    for size in (1, 2, 5, len(payload)):
        assert streamed(f"a {payload} b", size).text == f"a {payload} b"


AROUND = ["{}", "> - {}", "```py\n{}\n```", "|a|\n|-|\n|{}|", "# {}", "*a [{}](http://b) c*"]
# Of each payload one surrounding is tried in the quick run, of each surrounding every sixth payload.
SURROUNDED = [
    pytest.param(around, payload, marks=() if (place + number) % len(AROUND) == 0 else pytest.mark.long)
    for place, around in enumerate(AROUND)
    for number, payload in enumerate([*MARKUP, *LINKS])
]


@pytest.mark.parametrize(("around", "payload"), SURROUNDED)
def test_x1_nothing_else_than_ours_is_ever_made(around: str, payload: str) -> None:
    """No element, attribute, scheme or control character but those of the list, whatever stands around it."""
    for size in (1, 3, 1 << 20):
        streamed(around.format(payload), size)


@pytest.mark.parametrize("payload", LINKS)
def test_x1_a_link_leads_to_the_web_or_a_mailbox(payload: str) -> None:
    """Each link that is made opens apart, tells nobody where it was, and has one of three schemes."""
    for element in streamed(payload, 1).all():
        if element.tag == "a":
            assert element.attrs["href"].lower().startswith(("http://", "https://", "mailto:"))
            assert (element.attrs["rel"], element.attrs["target"]) == ("noopener noreferrer nofollow", "_blank")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "HTTP:/x",
        "http:x",
        " http://x",
        "http://x y",
        "http://x\n",
        "http://é",
        "//x",
        "",
        "mailto:",
    ],
)
def test_x1_what_is_no_link(url: str) -> None:
    """An address that is not one of the three schemes in visible ASCII makes no element."""
    assert link(url) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<\"'&>", "&lt;&quot;&#x27;&amp;&gt;"),
        ("a\x00b\x1b\x7f\x9fc\td\ne", "a\\u0000b\\u001b\\u007f\\u009fc\td\ne"),
        ("\u202ea\u2069", "\\u202ea\\u2069"),
        ("\ud800\U0001f600\udfff", "\ufffd\U0001f600\ufffd"),
    ],
)
def test_x1_escaped(text: str, expected: str) -> None:
    """Marks are entities, and what commands or turns text is seen."""
    assert escape(text) == expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("Python", "language-python"),
        ("c++ x", "language-c++"),
        ("{.r}", "language-r"),
        ('x"y', "language-x"),
        ("é", ""),
        ("<", ""),
        ("", ""),
        ("a" * 99, "language-" + "a" * 40),
    ],
)
def test_x1_the_name_of_a_language(info: str, expected: str) -> None:
    """A class is of few characters, however the fence names its language."""
    assert language(info) == expected


def test_classes_that_are_empty_are_left_out() -> None:
    """A tag has the classes that there are."""
    assert [tag("p"), tag("p", "", ""), tag("p", "", "a", "b")] == ["<p>", "<p>", '<p class="a b">']


_SOUP = st.lists(
    st.sampled_from(
        [*MARKUP, *LINKS, "\n", "\n\n", "- ", "> ", "```\n", "|", "\n|-|\n", "*", "`", "[", "](", ")", "!"]
    ),
    max_size=6,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=_SOUP | st.text(max_size=120), size=st.integers(1, 40))
def test_x1_no_text_makes_anything_else(text: str, size: int) -> None:
    """Payloads in any order, and text of any characters, surrogates included."""
    streamed(text, size)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.characters(categories=["Cs", "Cc", "Cf", "Po", "Zs"]) | st.sampled_from("<a>h:/[]("), max_size=60)
)
def test_x1_no_odd_character_gets_through(text: str) -> None:
    """Controls, formats and surrogates beside marks: the HTML is always text that UTF-8 can hold."""
    streamed(text, 1)


_SHOW = """
async steps => {
  window.hits = 0;
  window.alert = window.prompt = window.confirm = () => { hits++; };
  document.body.innerHTML = "<article><div></div><div></div></article>";
  const [pieces, tail] = document.querySelectorAll("article > div");
  const made = {};
  const look = root => {
    for (const element of root.querySelectorAll("*"))
      for (const name of ["", ...element.getAttributeNames()]) made[`${element.localName} ${name}`] = true;
  };
  for (const step of steps) {
    for (const piece of step.pieces) pieces.insertAdjacentHTML("beforeend", piece);
    tail.innerHTML = step.tail;
    look(tail);
  }
  look(pieces);
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  return {hits, made: Object.keys(made), schemes: [...pieces.querySelectorAll("[href]")].map(link => link.protocol)};
}
"""


def test_x1_a_browser_makes_nothing_else_of_it(browser: Browser) -> None:
    """Chromium, shown all of them as a page does it, makes our elements only, runs nothing and asks for nothing."""
    steps: list[dict[str, object]] = []
    for payload in [*MARKUP, *LINKS]:
        stream = HtmlStream(limit=40)
        for part in pieces(f"{payload}\n\n", 2):
            steps.append({"pieces": stream.feed(part), "tail": stream.tail})
        steps.append({"pieces": stream.finish(), "tail": stream.tail})
    with browser.page() as seen:
        seen.page.route("**", lambda route: route.fulfill(body="<!doctype html><body>", content_type="text/html"))
        seen.page.goto("http://page.test/")
        shown = seen.page.evaluate(_SHOW, json.loads(json.dumps(steps)))
        seen.page.reload()  # so what was asked for has been asked for
        asked = [url for url in seen.urls if url not in {"http://page.test/", "http://page.test/favicon.ico"}]

        assert (shown["hits"], asked, seen.complaints) == (0, [], [])
    allowed = {f"{name} {attribute}" for name, own in ATTRIBUTES.items() for attribute in {"", "class", *own}}
    assert sorted(set(shown["made"]) - allowed) == []
    assert {"http:", "mailto:"} <= set(shown["schemes"]) <= {"http:", "https:", "mailto:"}
