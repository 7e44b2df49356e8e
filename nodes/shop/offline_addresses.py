"""How the offline model finds a postal address in a text."""

from __future__ import annotations

import re

from pydantic import ValidationError

from policies.shop.addresses import Address

COUNTRIES = {
    "germany": "DE", "deutschland": "DE", "allemagne": "DE", "alemania": "DE", "austria": "AT", "österreich": "AT",
    "autriche": "AT", "france": "FR", "frankreich": "FR", "francia": "FR", "spain": "ES", "españa": "ES",
    "spanien": "ES", "espagne": "ES", "italy": "IT", "italia": "IT", "italien": "IT", "italie": "IT",
    "netherlands": "NL", "the netherlands": "NL", "niederlande": "NL", "pays-bas": "NL", "belgium": "BE",
    "belgien": "BE", "belgique": "BE", "luxembourg": "LU", "luxemburg": "LU", "portugal": "PT", "ireland": "IE",
    "denmark": "DK", "dänemark": "DK", "sweden": "SE", "schweden": "SE", "finland": "FI", "finnland": "FI",
    "poland": "PL", "polen": "PL", "pologne": "PL",
}  # fmt: skip
"""Names customers write after the city → ISO 3166-1."""

_POSTAL = r"(?P<postal>(?:[A-Z]{1,2}-)?(?:\d{4} ?[A-Z]{2}|\d{4}-\d{3}|\d{2}-\d{3}|\d{3} \d{2}|\d{4,5}))"
_CITY = r"(?P<city>[^\W\d_][^\n,.;:?!()\d]{1,40}?)"
CITY_LINE = re.compile(
    rf"[,\n]\s*{_POSTAL}\s+{_CITY}(?=\s+(?:instead|please|thanks|statt|bitte|merci|gracias)\b|\s*[\n,.;:?!()]|\s*\Z)"
    r"(?:\s*,\s*(?P<country>[^\W\d_][^\n,.;:?!()]*))?",
    re.IGNORECASE,
)
LEAD_IN = re.compile(
    r".*(?::|\b(?:to|at|an|nach|in|chez|à|au|en|is|ist|est|es|lautet|a)\s(?=\S*\s?\S*\d|[A-ZÀ-Þ\d]))\s*"
)
"""All up to the last word that leads in to an address: `send it to`, `new address:`."""
NAME = re.compile(r"^(?:[^\W\d_][\w.'’-]*\s+){1,4}[^\W\d_][\w.'’-]*$")


def find_address(text: str, present: Address) -> Address | None:
    """The new address a text gives; None when street, postal code or city is not plainly there.

    Recipient and country are the present address's where the text does not name them.
    """
    for found in CITY_LINE.finditer(text):
        parts = _parts_before(text[: found.start()])
        if not parts or not re.search(r"\d", parts[-1]):
            continue
        named = len(parts) > 1 and NAME.match(parts[-2])
        country = COUNTRIES.get((found["country"] or "").strip().lower(), present.country)
        try:
            address = Address(
                recipient=parts[-2] if named else present.recipient,
                street=parts[-1],
                postal_code=found["postal"],
                city=" ".join(found["city"].split()),
                country=country,
            )
        except ValidationError:
            continue
        if address != present:
            return address
    return None


def _parts_before(text: str) -> list[str]:
    """What stands before the postal code, cut at commas and line ends; the street comes last."""
    paragraph = text.rsplit("\n\n", 1)[-1]
    parts = [" ".join(part.split()) for part in re.split(r"[,\n]", paragraph)]
    stripped = [re.sub(LEAD_IN, "", part).strip() for part in parts[-3:]]
    return [part for part in stripped if part]
