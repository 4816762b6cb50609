"""How numbers are written and said in the languages whose numbers are spelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, eq=False)
class Language:
    """``library`` is num2words' name of the language, None for Chinese, which cn2an speaks.

    ``thousands`` and ``decimal`` hold the characters that stand in numbers of this language.
    ``percent`` and the values of ``units`` (by currency sign) hold a place {} for the number; what
    they do not name keeps its sign. ``sums`` are the currency signs that num2words knows.
    ``ordinal`` is a pattern of what follows the digits of an ordinal number. ``gap`` stands
    between the words of a number.
    """

    library: str | None
    thousands: str
    decimal: str
    minus: str
    point: str
    percent: str | None = None
    ordinal: str | None = None
    sums: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    gap: str = " "


_CHINESE = Language(
    library=None,
    thousands=",",
    decimal=".",
    minus="负",
    point="点",
    percent="百分之{}",
    units={"$": "{}美元", "€": "{}欧元", "£": "{}英镑", "¥": "{}元"},
    gap="",
)
_KOREAN = Language(
    library="ko",
    thousands=",",
    decimal=".",
    minus="마이너스",
    point="점",
    percent="{} 퍼센트",
    units={"$": "{} 달러", "€": "{} 유로", "£": "{} 파운드", "¥": "{} 엔", "₩": "{} 원"},
)
_ENGLISH = Language(
    "en", ",", ".", "minus", "point", "{} percent", ordinal="st|nd|rd|th", sums="$€£"
)
_FRENCH = Language("fr", " ", ",", "moins", "virgule", "{} pour cent", "er|e|ème", sums="$€£")
_SPANISH = Language("es", ". ", ",", "menos", "coma", "{} por ciento", sums="$€£¥")
_PORTUGUESE = Language("pt", ". ", ",", "menos", "vírgula", "{} por cento", sums="$€")

# Japanese is not among them: its number words are written in kanji, which espeak-ng cannot read,
# while it reads digits itself.
LANGUAGES: Mapping[str, Language] = {
    "zh": _CHINESE,
    "ko": _KOREAN,
    "en": _ENGLISH,
    "de": Language("de", ".", ",", "minus", "Komma", "{} Prozent", sums="$€£"),
    "fr": _FRENCH,
    "fr-be": replace(_FRENCH, library="fr_BE"),
    "fr-ch": replace(_FRENCH, library="fr_CH", thousands=" '’", decimal=",."),
    "es": _SPANISH,
    "es-mx": replace(_SPANISH, thousands=",", decimal=".", point="punto"),
    "it": Language("it", ".", ",", "meno", "virgola", "{} per cento", sums="$€£"),
    "pt": _PORTUGUESE,
    "pt-br": replace(_PORTUGUESE, library="pt_BR", thousands=".", sums=""),
    "nl": Language("nl", ".", ",", "min", "komma", "{} procent", sums="$€£"),
    "pl": Language("pl", " ", ",", "minus", "przecinek", "{} procent", sums="$€"),
    "ru": Language("ru", " ", ",", "минус", "запятая", sums="$€"),
    "uk": Language("uk", " ", ",", "мінус", "кома", sums="$€£"),
    "cs": Language("cs", " ", ",", "mínus", "celá", "{} procent"),
    "sv": Language("sv", " ", ",", "minus", "komma", "{} procent"),
    "da": Language("da", ".", ",", "minus", "komma", "{} procent"),
    "no": Language("no", " ", ",", "minus", "komma", "{} prosent"),
    "fi": Language("fi", " ", ",", "miinus", "pilkku", "{} prosenttia", sums="$€£"),
    "hu": Language("hu", ". ", ",", "mínusz", "egész", "{} százalék"),
    "ro": Language("ro", ".", ",", "minus", "virgulă", "{} la sută"),
    "tr": Language("tr", ".", ",", "eksi", "virgül", "yüzde {}"),
    "id": Language("id", ".", ",", "minus", "koma", "{} persen"),
    "vi": Language("vi", ".", ",", "âm", "phẩy", "{} phần trăm"),
    "th": Language("th", ",", ".", "ลบ", "จุด", "{}เปอร์เซ็นต์", gap=""),
    "ar": Language("ar", ",٬", ".٫", "ناقص", "فاصلة", "{} بالمئة"),
    "fa": Language("fa", ",٬", ".٫", "منفی", "ممیز", "{} درصد"),
}
_ALSO_CALLED = {
    "cmn": "zh",
    "cn": "zh",
    "yue": "zh",
    "kr": "ko",
    "english": "en",
    "chinese": "zh",
    "mandarin": "zh",
    "cantonese": "zh",
    "korean": "ko",
    "german": "de",
    "french": "fr",
    "spanish": "es",
    "italian": "it",
    "portuguese": "pt",
    "russian": "ru",
    "nb": "no",
    "nn": "no",
}


def language_of(code: str) -> Language | None:
    """The language that people mean by "EN", "zh_CN", "jp" or "pt-BR"; None for one not here.

    A region of its own is looked for first, then the language.
    """
    code = code.strip().lower().replace("_", "-")
    for candidate in (code, code.partition("-")[0]):
        name = _ALSO_CALLED.get(candidate, candidate)
        if name in LANGUAGES:
            return LANGUAGES[name]
    return None
