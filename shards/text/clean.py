"""Text without control characters, markup and second ways to write the same."""

from __future__ import annotations

import html
import re
import unicodedata
from html.entities import html5

# "<" begins a tag only before a name, and a name may be followed by nothing but attributes with
# values: "a < b", "<3" and "x <y and z> w" are text.
_MARKUP = re.compile(
    r"</?[A-Za-z_][\w:.-]*(?:\s[^<>=]*=[^<>]*|\s*/?)>|<(?:!--|!\w|\?\w)[^<>]*>", re.ASCII
)
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]*);", re.ASCII)
# NFKC makes plain digits of these: 10² must not become 102, nor 1½ eleven halves.
_RAISED = re.compile(r"(?<=\d)(?=[\xb2\xb3\xb9\xbc-\xbe\u2070-\u2089\u2150-\u215f\u2460-\u249b])")
# Chinese commas part numbers; as the plain commas that NFKC makes of them they would join them.
_PARTING_COMMA = re.compile(r"(?<=[0-9])，(?=[-−0-9０-９])")
_DROPPED = {"Cf", "Cs", "Co"}


def cleaned(text: str) -> str:
    """NFKC of ``text`` without markup and control characters, with single spaces.

    Tags, comments and line breaks become spaces and entities the characters they stand for, until
    none is left, so that cleaning again changes nothing. Zero-width and bidi marks, surrogates and
    private characters go without a trace.
    """
    while True:
        before, text = text, _cleaned_once(text)
        if text == before:
            return text


def _cleaned_once(text: str) -> str:
    if not text.isprintable():
        text = "".join(map(_visible, text))
    text = _PARTING_COMMA.sub(", ", _RAISED.sub(" ", text))
    text = unicodedata.normalize("NFKC", text)
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    if "<" in text:
        text = _MARKUP.sub(" ", text)
    return " ".join(text.split())


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        return " "
    return "" if category in _DROPPED else character


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; one that nobody knows stays."""
    if entity[1].startswith("#") or entity[0][1:] in html5:
        return html.unescape(entity[0])
    return entity[0]
