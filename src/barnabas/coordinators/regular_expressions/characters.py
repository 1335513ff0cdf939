"""Sets of ASCII characters as numbers of 128 bits, and the names under which patterns know them."""

from __future__ import annotations

import unicodedata

__all__ = [
    "ALL",
    "CLASSES",
    "NEWLINE",
    "PERL_CLASSES",
    "WORD",
    "folded",
    "property_set",
    "range_set",
]

_SIZE = 128
ALL = (1 << _SIZE) - 1
NEWLINE = 1 << 10


def range_set(first: int, last: int) -> int:
    """The characters from `first` to `last`; those beyond ASCII are in no set."""
    last = min(last, _SIZE - 1)
    return 0 if last < first else (1 << last + 1) - (1 << first)


def _chars(text: str) -> int:
    mask = 0
    for char in text:
        mask |= 1 << ord(char)
    return mask


_DIGIT = range_set(0x30, 0x39)
_UPPER = range_set(0x41, 0x5A)
_LOWER = range_set(0x61, 0x7A)
_ALPHA = _UPPER | _LOWER
WORD = _ALPHA | _DIGIT | _chars("_")
_GRAPH = range_set(0x21, 0x7E)

PERL_CLASSES = {"d": _DIGIT, "s": _chars("\t\n\f\r "), "w": WORD}
"""\\d, \\s and \\w; in upper case they are the others."""

CLASSES = {
    "alnum": _ALPHA | _DIGIT,
    "alpha": _ALPHA,
    "ascii": ALL,
    "blank": _chars("\t "),
    "cntrl": range_set(0, 0x1F) | 1 << 0x7F,
    "digit": _DIGIT,
    "graph": _GRAPH,
    "lower": _LOWER,
    "print": _GRAPH | _chars(" "),
    "punct": _GRAPH & ~(_ALPHA | _DIGIT),
    "space": _chars("\t\n\v\f\r "),
    "upper": _UPPER,
    "word": WORD,
    "xdigit": _DIGIT | range_set(0x41, 0x46) | range_set(0x61, 0x66),
}
"""[[:alpha:]] and its like."""

# fmt: off
_CATEGORIES = frozenset({
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd",
    "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl",
    "Zp", "Zs",
})
# fmt: on
# fmt: off
_SCRIPTS = frozenset({
    "Arabic", "Armenian", "Avestan", "Balinese", "Bamum", "Batak", "Bengali", "Bopomofo", "Brahmi",
    "Braille", "Buginese", "Buhid", "Canadian_Aboriginal", "Carian", "Cham", "Cherokee", "Common",
    "Coptic", "Cuneiform", "Cypriot", "Cyrillic", "Deseret", "Devanagari", "Egyptian_Hieroglyphs",
    "Ethiopic", "Georgian", "Glagolitic", "Gothic", "Greek", "Gujarati", "Gurmukhi", "Han", "Hangul",
    "Hanunoo", "Hebrew", "Hiragana", "Imperial_Aramaic", "Inherited", "Inscriptional_Pahlavi",
    "Inscriptional_Parthian", "Javanese", "Kaithi", "Kannada", "Katakana", "Kayah_Li", "Kharoshthi",
    "Khmer", "Lao", "Latin", "Lepcha", "Limbu", "Linear_B", "Lisu", "Lycian", "Lydian", "Malayalam",
    "Mandaic", "Meetei_Mayek", "Mongolian", "Myanmar", "New_Tai_Lue", "Nko", "Ogham", "Ol_Chiki",
    "Old_Italic", "Old_Persian", "Old_South_Arabian", "Old_Turkic", "Oriya", "Osmanya", "Phags_Pa",
    "Phoenician", "Rejang", "Runic", "Samaritan", "Saurashtra", "Shavian", "Sinhala", "Sundanese",
    "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa", "Tai_Le", "Tai_Tham", "Tai_Viet", "Tamil",
    "Telugu", "Thaana", "Thai", "Tibetan", "Tifinagh", "Ugaritic", "Unknown", "Vai", "Yi",
})
# fmt: on
_ASCII_SCRIPTS = {"Latin": _ALPHA, "Common": ALL & ~_ALPHA}


def property_set(name: str) -> int | None:
    r"""What of ASCII \p{name} holds: a general category, a script or Any; None for a name that is none of these."""
    if name == "Any":
        return ALL
    if name in _CATEGORIES:
        return _chars("".join(c for c in map(chr, range(_SIZE)) if unicodedata.category(c).startswith(name)))
    if name in _SCRIPTS:
        return _ASCII_SCRIPTS.get(name, 0)
    return None


def folded(mask: int) -> int:
    """The set with both cases of each letter."""
    return mask | (mask & _UPPER) << 32 | (mask & _LOWER) >> 32
