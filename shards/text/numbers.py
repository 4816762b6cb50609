"""Numbers in words: integers, decimals, ordinals, percentages and sums of money.

A number is read as its language writes it (1,234.5 or 1.234,5). Digits in words are numbers of
their own: "B2B" is "B two B", "COVID-19" is "COVID-nineteen". A number with a leading zero or of
more than 15 digits is read digit by digit. What has separators and yet is no number of the
language (10:30, 1.2.3) is read part by part. A hyphen is a minus only where nothing or a blank,
bracket, quotation mark or comma stands before it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

from shards.text.languages import Language

MAX_DIGITS = 15
"""Larger numbers are read digit by digit: few of the libraries' names reach further."""
_CODES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}
_CENTS = 2
_MINUS = r"(?P<minus>(?<![^\s(\[{\"'“‘«「『,;:、。=])-|−)"
# Thai and Lao, East Asian: no blank is due beside their letters.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u2e80-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")
_BEGINS_TAG = re.compile(r"<[/!?]?\Z")


def spelled(text: str, language: Language) -> str:
    """``text`` with all digits, of whatever script, in words of ``language``."""
    plain = re.sub(r"\d", lambda digit: str(int(digit[0])), text)
    return _pattern(language).sub(lambda found: _apart(found, _said(found, language)), plain)


@lru_cache(maxsize=64)
def _pattern(language: Language) -> re.Pattern[str]:
    """A number with its signs (``whole``), or digits and separators that are none (``parts``)."""
    thousand, point = (f"[{re.escape(marks)}]" for marks in (language.thousands, language.decimal))
    separators = f"{language.thousands}{language.decimal}.,:".replace(" ", "")
    further = rf"[{re.escape(separators)}]?\d"
    signs = "".join({*language.units, *language.sums})
    sign = f"[{re.escape(signs)}]" if signs else "(?!)"
    ordinal = f"(?i:{language.ordinal})" if language.ordinal else "(?!)"
    percent = r"\ ?[%٪]" if language.percent else "(?!)"
    return re.compile(
        rf"{_MINUS}?(?:(?P<before>{sign})\ ?)?"
        rf"(?:(?P<whole>\d{{1,3}}(?:{thousand}\d{{3}})+|\d+)(?:{point}(?P<rest>\d+))?(?!{further})"
        rf"(?(before)|(?:(?(rest)(?!)|(?P<ordinal>{ordinal})\b)|(?P<percent>{percent})"
        rf"|\ ?(?P<after>{sign})(?!\d))?)"
        r"|(?P<parts>\d+(?:[.,:]\d+)*))"
    )


def _said(found: re.Match[str], language: Language) -> str:
    words = _amount(found, language)
    return f"{language.minus}{language.gap}{words}" if found["minus"] else words


def _amount(found: re.Match[str], language: Language) -> str:
    """What is said of everything but the minus."""
    if found["parts"]:
        return (found["before"] or "") + _part_by_part(found["parts"], language)
    whole, rest = re.sub(r"\D", "", found["whole"]), found["rest"] or ""
    symbol = found["before"] or found["after"]
    if symbol:
        return _money(symbol, whole, rest, language)
    if found["ordinal"] and len(whole) <= MAX_DIGITS:
        return _ordinal(int(whole), language.library or "")
    words = _number(whole, rest, language)
    return language.percent.format(words) if language.percent and found["percent"] else words


def _part_by_part(parts: str, language: Language) -> str:
    said = [
        _number(part, "", language) if part.isdecimal() else {",": ","}.get(part, " ")
        for part in re.split(r"([.,:])", parts)
    ]
    return "".join(said)


def _money(symbol: str, whole: str, rest: str, language: Language) -> str:
    if symbol in language.units:
        return language.units[symbol].format(_number(whole, rest, language))
    if len(whole) > MAX_DIGITS or len(rest) > _CENTS:
        return f"{symbol} {_number(whole, rest, language)}"
    return _sum(Decimal(f"{whole}.{rest or 0}"), _CODES[symbol], language.library or "")


def _number(whole: str, rest: str, language: Language) -> str:
    if len(whole) > MAX_DIGITS or (whole.startswith("0") and len(whole) > 1):
        words = _digits(whole, language)
    else:
        words = _cardinal(int(whole), language.library)
    return language.gap.join([words, language.point, _digits(rest, language)]) if rest else words


def _digits(digits: str, language: Language) -> str:
    return language.gap.join(_cardinal(int(digit), language.library) for digit in digits)


@lru_cache(maxsize=4096)
def _cardinal(number: int, library: str | None) -> str:
    if library is None:
        import cn2an

        return str(cn2an.an2cn(str(number)))
    import num2words

    return _flowing(num2words.num2words(number, lang=library))


@lru_cache(maxsize=4096)
def _ordinal(number: int, library: str) -> str:
    import num2words

    return _flowing(num2words.num2words(number, lang=library, to="ordinal"))


@lru_cache(maxsize=4096)
def _sum(amount: Decimal, currency: str, library: str) -> str:
    from num2words import num2words

    if amount != int(amount):
        return _flowing(num2words(amount, lang=library, to="currency", currency=currency))
    said = num2words(amount, lang=library, to="currency", currency=currency, separator="|")
    return _flowing(said.partition("|")[0])


def _flowing(words: str) -> str:
    """Without the commas in "one thousand, two hundred": nobody pauses there."""
    return words.replace(",", "").strip()


def _apart(found: re.Match[str], words: str) -> str:
    """``words`` with blanks where they would run into what stands around the number."""
    before = found.string[max(0, found.start() - 2) : found.start()]
    after = found.string[found.end() : found.end() + 2]
    left = " " if _runs_on(before[-1:]) or _is_range(before[::-1]) or _opens(before) else ""
    right = " " if _runs_on(after[:1]) or _is_range(after) else ""
    return f"{left}{words}{right}"


def _runs_on(character: str) -> bool:
    if _UNSPACED.match(character):
        return False
    return character.isalnum() or character in {"%", "٪", *_CODES}


def _is_range(outwards: str) -> bool:
    """A hyphen and then another number: "90-2" is not "ninety-two"."""
    return outwards[:1] == "-" and outwards[1:].isdecimal()


def _opens(before: str) -> bool:
    """Words right after "<" or "&" would make a tag or an entity of it."""
    return before.endswith("&") or _BEGINS_TAG.search(before) is not None
