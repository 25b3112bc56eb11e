"""The chat page, as somebody uses it."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import Locator, Page, TimeoutError
from tests.browser import PATIENCE, Seen

from tailrace.testing import FakeOllama
from tailrace.testing.records import Record

ASKED = "/api/chat"  # the path of a generation at the model server


class Chat:
    """A tab with the page.

    Attributes:
        page: Playwright's.
        seen: what it has asked for and complained about.
        url: of the gateway.
    """

    def __init__(self, seen: Seen, url: str) -> None:
        self.seen = seen
        self.page: Page = seen.page
        self.url = url

    def open(self, path: str = "/") -> Chat:
        """Goes to the page; returns when it can be used."""
        self.page.goto(self.url + path)
        self.page.wait_for_selector("body:not([hidden])")
        return self

    # -- what somebody does ----------------------------------------------------------------------------------------

    def ask(self, text: str) -> None:
        """Writes a question and sends it."""
        self.field.fill(text)
        self.field.press("Control+Enter")
        self.page.wait_for_function(
            """text => [...document.querySelectorAll(".question .asked")].at(-1)?.textContent === text""", arg=text
        )

    def answered(self, text: str, answer: str) -> None:
        """Asks, and waits until the answer is complete."""
        self.ask(text)
        self.wait_for_text(answer)
        self.wait_until_over()

    def do(self, what: str, message: int = -1) -> None:
        """Presses the button of a message that does this."""
        button = self.messages.nth(message).locator(f'[data-does="{what}"]')
        button.focus()
        button.press("Enter")

    def step(self, direction: str, message: int = -1) -> None:
        """Goes to the previous or the next version of a message."""
        self.messages.nth(message).locator(f'[data-step="{direction}"]').click()

    def menu(self, entry: str, conversation: int = 0) -> None:
        """Chooses from the menu of a conversation in the list."""
        item = self.page.locator(".conversation-item").nth(conversation)
        item.hover()
        item.locator(".icon-button").click()
        self.page.locator(f'.menu [data-does="{entry}"]').click()

    # -- what is there ---------------------------------------------------------------------------------------------

    @property
    def field(self) -> Locator:
        return self.page.locator("#question")

    @property
    def log(self) -> Locator:
        return self.page.locator("#log")

    @property
    def messages(self) -> Locator:
        return self.page.locator(".message")

    @property
    def answer(self) -> Locator:
        """The last answer."""
        return self.page.locator(".answer").last

    @property
    def text(self) -> str:
        """The text of the last answer, as it stands in the document."""
        return self.answer.locator(".markdown").text_content() or ""

    @property
    def conversation(self) -> str:
        """The id of the conversation that is shown."""
        found = re.search(r"/c/(.+)$", self.page.url)
        assert found is not None, self.page.url
        return found[1]

    def kept(self) -> dict[str, Any]:
        """The conversation that is shown, as the gateway has it."""
        value = self.page.request.get(f"{self.url}/conversations/{self.conversation}").json()
        assert isinstance(value, dict)
        return value

    def branch(self) -> list[str]:
        """The texts of all messages that are shown."""
        return [
            (message.locator(".asked, .markdown").text_content() or "").strip()
            for message in self.page.locator(".message").all()
        ]

    # -- waiting ---------------------------------------------------------------------------------------------------

    def wait_for_text(self, text: str) -> None:
        """Waits until the last answer has this in it."""
        self._wait(
            """text => [...document.querySelectorAll(".answer .markdown")].at(-1)?.textContent.includes(text)""", text
        )

    def wait_until_over(self) -> None:
        """Waits until the last answer has ended, and all is kept."""
        self._wait(
            """() => {
              const last = [...document.querySelectorAll(".answer")].at(-1);
              return last && !last.classList.contains("going") && !document.querySelector("#send.stop");
            }"""
        )

    def _wait(self, condition: str, value: str = "") -> None:
        try:
            self.page.wait_for_function(condition, arg=value)
        except TimeoutError as error:
            raise AssertionError(f"{value!r}: {self.page.inner_text('body')!r} {self.seen.complaints}") from error

    def wait_for_note(self, text: str) -> None:
        """Waits until the last answer says how it ended."""
        self.answer.locator(".note", has_text=text).wait_for()

    def wait_for_spoken(self, text: str) -> None:
        """Waits until screen readers have been told this."""
        self.page.wait_for_function("text => document.querySelector('#spoken').textContent.includes(text)", arg=text)

    def wait_for_focus(self, selector: str) -> None:
        """Waits until an element of this kind has the focus."""
        self.page.wait_for_function("selector => document.activeElement?.matches(selector)", arg=selector)


def request_of(upstream: FakeOllama, number: int = 1) -> Record:
    """Returns the model server's record of a generation."""
    return upstream.wait_for_request(number, PATIENCE / 1000, path=ASKED)


def asked(record: Record) -> list[tuple[str, str]]:
    """The roles and texts that the model was sent."""
    return [(message["role"], message["content"]) for message in json.loads(record.body)["messages"]]


def pieces(text: str, size: int = 4) -> list[str]:
    """A text cut as models send it."""
    return [text[at : at + size] for at in range(0, len(text), size)]
