"""What there is to see on a page, and whether everybody can see, name and hit it: checked on the real styles."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

# Text whose contrast with what is behind it is less than 4.5 (3 for large text), as the sRGB formula of WCAG 2 has it.
_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = (color) => {
    const [red, green, blue] = color.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  let looked = 0;
  const scope = document.querySelector("dialog[open]") ?? document.body;
  const walker = document.createTreeWalker(scope, NodeFilter.SHOW_TEXT);
  const check = (element, color, text) => {
    const style = getComputedStyle(element);
    const back = behind(element);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const value = ratio(over(rgba(color), back), back);
    looked += 1;
    if (value < (large ? 3 : 4.5)) found.push(`${value.toFixed(2)} "${text.slice(0, 30)}" ${element.className}`);
  };
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest(".unseen, option, [aria-disabled=true]")) continue;
    check(element, getComputedStyle(element).color, text);
  }
  for (const field of scope.querySelectorAll("input, textarea, select")) {
    if (!field.checkVisibility()) continue;
    check(field, getComputedStyle(field).color, field.value || field.id);
    if (field.placeholder) check(field, getComputedStyle(field, "::placeholder").color, field.placeholder);
  }
  return { found, looked };
}"""

# What can be used, with the name and the role that the browser tells to screen readers, and the place it takes.
_CONTROLS = """() => {
  const scope = document.querySelector("dialog[open]") ?? document;
  return [...scope.querySelectorAll("button, a[href], input, textarea, select, summary, [tabindex='0']")]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest("[inert]"))
    .map((element) => {
      const { width, height } = element.getBoundingClientRect();
      const labelled = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
      return {
        name: labelled.trim(),
        tag: element.localName,
        id: element.id || element.className,
        width,
        height,
        inText: element.matches(".markdown a"),
      };
    });
}"""


def low_contrast(page: Page) -> list[str]:
    """Returns what cannot be read well, of all that can be seen now."""
    result: dict[str, Any] = page.evaluate(_CONTRAST)
    assert result["looked"] > 0
    found: list[str] = result["found"]
    return found


def controls(page: Page) -> list[dict[str, Any]]:
    """Returns what can be used now: its name, kind, id, and its width and height in pixels."""
    found: list[dict[str, Any]] = page.evaluate(_CONTROLS)
    assert found
    return found
