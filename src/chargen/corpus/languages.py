"""The characters of languages, and how probable they are: what encodings are told apart by.

A model of a language is a table of -ln p of its characters, in nats: the frequent ones by their rank, the others in use
equally. It is coarse, and enough: the characters that a wrong encoding yields are rare ones in every language.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

_SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点"
    "正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿"
    "原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德"
    "资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交"
    "规万取拉格望觉术领共确传师观清今切院让识候带导争运风云花春秋夜雨酒诗君归江城客"
)
_TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去"
    "法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點"
    "正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒"
    "原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德"
    "資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交"
    "規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導爭運風雲花春秋夜雨酒詩君歸江城客嘅咗喺唔佢哋咁啲"
)
_JAPANESE = (
    "のにたいをはしがてとでなかっるられまもんすこりあだくさうけよえつそせきどめわれおちろゆほみげばひびじぐぬやへふずべぎぶぼざ"
    "ンスルトリラアイクシドレジタフロカテッマグメサコニプキバウハムエオチナーャュョ"
    "日一人年大十二本中長出三時行見月分後前生五間上東四今金入学高円子外下来気小山話女書先名川水男西電校語聞食車何南白天母読友父言私思"
)
_KOREAN = (
    "이다는에가을의고하은지로한도를기사리어자나서아시인그라대일해있수것들부정전보여만구원게제와으과장스주상오니무했동마선학공안문거야면"
    "적조성경계소신우비위미생국적방말모유중각세관치화실할진저내영없러때회개물년당연산분현음것같또그려네레요"
)
"""The most frequent characters of each language."""

_ALPHABETS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("cp1252",): (
        "éèàêçôîûùâëïœÉ«»’",  # French
        "äüößÄÖÜ„“",
        "áéíóñúü¿¡Ñ",
        "ãáéçóíõêâúàô",
        "èàòùìé’",
        "åäöøæÅÄÖØÆ",
    ),
    ("cp1250",): ("ąłężóśćńźŁŚŻ„”", "íáéřěšýžčůúťóňďŠČŘ", "áéíöóőüúűÁÉÖŐ", "ăîâşţŞŢ„”", "šžčćđŠŽČĆĐ"),
    ("cp1254",): ("ıüşğçöİŞÖÜÇĞ’",),
    ("cp1257",): ("āīšēņūļžķģčŠĀ", "ėšįąųžūčęŠŽ", "äõüöšžÄÕÜÖ"),
    ("cp1251", "koi8_r", "cp866", "iso8859_5"): (
        "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфёъ",
        "оиавентірслкудмпязгьбчхйжшцюєїґщф",
    ),
    ("cp1253",): ("αοιετσνηυρπκμλςάίωόγδέχήθύφώβξζψ",),
    ("cp1255",): ("יוהלאמתבשרנםקדעחכגפצטסזךןףץ",),
    ("cp1256",): ("اليمنتربهودعكفسقحجشطصخزثذغظضةىأإء،پچژگ",),
    ("cp874",): ("านรกอเงยมลทวปตสคหดบพชขจถธผศใไแโซฟภฐฝณ่้ัีิืุูึ็์",),
}
"""Letters beyond ASCII by encodings: one string for each language, the most frequent letters first."""

PUNCTUATION = "，。　、．・：；？！「」『』（）【】《》〈〉〔〕“”‘’…—～·○●□■◎☆★◆◇※×→"


def _two_bytes(encoding: str, leads: Iterable[int]) -> frozenset[str]:
    """Return the characters of some rows of a two-byte encoding."""
    pairs = (bytes((lead, trail)) for lead in leads for trail in range(0x40, 0xFF))
    characters = "".join(pair.decode(encoding, "ignore") for pair in pairs)
    return frozenset(character for character in characters if not character.isascii())


class Candidate(NamedTuple):
    """An encoding, and -ln p of the characters of a language, nats."""

    encoding: str
    costs: dict[str, float]


_ASCII = [chr(code) for code in (*range(0x20, 0x7F), 9, 10, 13)]
_UNUSUAL = math.log(1e6)
"""-ln p of a character that is not used in a language: a rare, private or unassigned one; half of that of an error."""


def _costs(frequent: str, common: Iterable[str], share: float, letters: float) -> dict[str, float]:
    """Return -ln p of characters: frequent ones by their rank (Zipf 1935), common ones equally.

    Args:
        frequent: the most frequent characters first.
        common: the others.
        share: the share of both in a text of the language.
        letters: the share of letters in the rest of the text, which is ASCII.
    """
    rest = set(common) - set(frequent)
    weights = {character: 1 / (rank + 8) for rank, character in enumerate(dict.fromkeys(frequent))}
    weights |= dict.fromkeys(rest, 0.35 * sum(weights.values()) / max(1, len(rest)))
    total = sum(weights.values())
    # About forty of the ASCII letters are in use, and fifteen other characters.
    costs = {c: -math.log((1 - share) * (letters / 40 if c.isalpha() else (1 - letters) / 15)) for c in _ASCII}
    return costs | {character: -math.log(share * weight / total) for character, weight in weights.items()}


@cache
def candidates() -> tuple[Candidate, ...]:
    """Return the candidates. The rows of the standards say which characters are common."""
    simplified = _two_bytes("gb2312", range(0xB0, 0xD8))  # level 1
    traditional = _two_bytes("big5", range(0xA4, 0xC7))  # level 1
    kanji = _two_bytes("euc_jp", (0xA4, 0xA5, *range(0xB0, 0xD0)))  # kana, level 1
    hangul = _two_bytes("euc_kr", range(0xB0, 0xC9))
    marks = PUNCTUATION[:3]
    both = marks + "".join(character for pair in zip(_SIMPLIFIED, _TRADITIONAL, strict=False) for character in pair)
    found = [Candidate("gb18030", _costs(both, simplified | traditional | set(PUNCTUATION), 0.5, 0.7))]
    for encodings, frequent, common in (
        (("big5", "cp950", "big5hkscs"), marks + _TRADITIONAL, traditional),
        (("cp932", "euc_jp"), marks + _JAPANESE, kanji),
        (("cp949",), _KOREAN, hangul),
    ):
        costs = _costs(frequent, common | set(PUNCTUATION), 0.5, 0.7)
        found += [Candidate(encoding, costs) for encoding in encodings]
    for names, languages in _ALPHABETS.items():
        for letters in languages:
            is_latin = names[0] in ("cp1252", "cp1250", "cp1254", "cp1257")
            others = "–—“”‘’…«»„°§" + ("" if is_latin else letters.upper())
            costs = _costs(letters, others, *((0.08, 0.7) if is_latin else (0.7, 0.2)))
            found += [Candidate(encoding, costs) for encoding in names]
    return tuple(found)


def cost_of(text: str, costs: dict[str, float]) -> float:
    """Return -ln p of a decoded text, nats."""
    return sum(costs.get(character, _UNUSUAL) for character in text) + text.count("\ufffd") * _UNUSUAL
