"""Small words that give a language away, goods and numbers in four languages."""

from __future__ import annotations

_SMALL_WORDS = {
    "en": "the and is my you of to for have it was i please that with this not can",
    "de": "der die das und ist ich nicht mein meine sie bitte mit für ein eine zu habe wie den auf",
    "fr": "le la les et est je mon ma pas vous pour une un des que avec bonjour ne du il",
    "es": "el los y es mi no por para una un que con hola me del se lo está cuando pedido",
}
LANGUAGE_WORDS = {language: frozenset(words.split()) for language, words in _SMALL_WORDS.items()}
"""Language → its commonest words."""

GOODS = {
    "lampe": "lamp", "lámpara": "lamp", "schirm": "lampshade", "abat-jour": "lampshade", "pantalla": "lampshade",
    "tisch": "table", "mesa": "table", "stuhl": "chair", "stühle": "chair", "chaise": "chair", "silla": "chair",
    "kissen": "cushion", "coussin": "cushion", "cojín": "cushion", "cojin": "cushion", "teppich": "rug",
    "tapis": "rug", "alfombra": "rug", "spiegel": "mirror", "miroir": "mirror", "espejo": "mirror",
    "becher": "mug", "tasse": "mug", "taza": "mug", "kerze": "candle", "bougie": "candle", "vela": "candle",
    "handtuch": "towel", "handtücher": "towel", "serviette": "towel", "toalla": "towel", "decke": "throw",
    "plaid": "throw", "manta": "throw", "blanket": "throw", "laken": "sheet", "drap": "sheet", "sábana": "sheet",
    "bettwäsche": "sheet", "regal": "shelf", "shelves": "shelf", "étagère": "shelf", "estante": "shelf",
    "uhr": "clock", "horloge": "clock", "reloj": "clock", "korb": "basket", "panier": "basket", "cesta": "basket",
    "brett": "board", "planche": "board", "tabla": "board", "tablett": "tray", "plateau": "tray",
    "bandeja": "tray", "kessel": "kettle", "bouilloire": "kettle", "tetera": "kettle", "glas": "tumbler",
    "gläser": "tumbler", "verre": "tumbler", "vaso": "tumbler", "bank": "bench", "banc": "bench", "banco": "bench",
    "jarrón": "vase", "florero": "vase", "topf": "planter", "maceta": "planter", "leinen": "linen",
    "eiche": "oak", "chêne": "oak", "roble": "oak", "nussbaum": "walnut", "noyer": "walnut", "holz": "wood",
    "bois": "wood", "madera": "wood",
}  # fmt: skip
"""Goods and materials in other words than our titles use."""

NUMBERS = {
    "one": 1, "a": 1, "an": 1, "single": 1, "two": 2, "both": 2, "three": 3, "four": 4, "five": 5, "six": 6,
    "ein": 1, "eine": 1, "einer": 1, "eines": 1, "zwei": 2, "beide": 2, "drei": 3, "vier": 4, "fünf": 5, "sechs": 6,
    "un": 1, "une": 1, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5,
    "uno": 1, "una": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5, "seis": 6,
}  # fmt: skip
