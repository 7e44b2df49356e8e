"""The words by which the offline model knows what a customer writes about, in four languages."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple


class Topic(StrEnum):
    """What a message is about, named as a colleague would say it; the most urgent first."""

    LEGAL = "a legal threat"
    PRESS = "a press inquiry"
    PRIVACY = "personal data"
    FRAUD = "fraud"
    PERSON = "a wish to speak to a person"
    DAMAGED = "damaged goods"
    FAULTY = "faulty goods"
    WRONG_ITEM = "the wrong goods"
    MISSING_ITEM = "missing goods"
    NOT_DELIVERED = "a refund for an order that never arrived"
    DOUBLE_CHARGE = "a double charge"
    OVERCHARGED = "a charge that is too high"
    RETURNED = "a refund for returned goods"
    GOODWILL = "a price or goodwill request"
    REFUND = "a refund"
    ADDRESS = "another delivery address"
    CANCEL = "a cancellation"
    TRACK = "the whereabouts of an order"
    QUESTION = "a question"
    VAGUE = "a problem not yet described"


PEOPLE_FIRST = (Topic.LEGAL, Topic.PRESS, Topic.PRIVACY, Topic.FRAUD, Topic.PERSON)
COMPLAINTS = (Topic.DAMAGED, Topic.FAULTY, Topic.WRONG_ITEM, Topic.MISSING_ITEM)
MONEY = (
    *COMPLAINTS,
    Topic.NOT_DELIVERED,
    Topic.DOUBLE_CHARGE,
    Topic.OVERCHARGED,
    Topic.RETURNED,
    Topic.GOODWILL,
    Topic.REFUND,
)
PARCELS = (Topic.ADDRESS, Topic.CANCEL, Topic.TRACK)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


SIGNS: dict[Topic, re.Pattern[str]] = {
    Topic.LEGAL: _any(
        r"\b(lawyer|attorney|solicitor|lawsuit|ombudsman|small claims|trading standards|sue (you|your)|suing)\b",
        r"\blegal (action|steps|proceedings|counsel)|consumer (protection|advice|rights) |\b(in|to) court\b",
        r"\b(anwalt|anwält)|rechtliche\w* schritt|verklag|vor gericht|amtsgericht|mahnbescheid|verbraucherzentrale",
        r"\bavocat|tribunal|en justice|mise en demeure|\babogad|\bjuzgado|acciones legales|demandar",
    ),
    Topic.PRESS: _any(
        r"\bjournalist|\breporter\b|\bpress (inquiry|enquiry|request|office|deadline)|\bmedia (inquiry|request)",
        r"\bI (write|report) for\b|\b(writing|working on) an? (article|piece|story|feature)\b|\bnewsroom\b",
        r"presseanfrage|\bredaktion|\bpériodiste|demande de presse|\bperiodista|\bprensa\b",
    ),
    Topic.PRIVACY: _any(
        r"\b(GDPR|DSGVO|RGPD)\b|\bpersonal data\b|\bcopy of (all )?(my|the) data|\bdata you (hold|have|store)",
        r"\b(delete|erase|remove|deletion of|erasure of)\b.{0,30}\b(my|all|customer)\b.{0,20}\b(data|account|profile)",
        r"\b(daten|konto)\b.{0,25}lösch|lösch\w*.{0,30}\b(daten|konto)\b|personenbezogen",
        r"données personnelles|supprim\w+.{0,30}(données|compte)|datos personales",
        r"(borr|elimin)\w+.{0,25}(datos|cuenta)",
    ),
    Topic.FRAUD: _any(
        r"\b(account|card)\b.{0,15}\b(hacked|stolen|compromised)|\bfraud|identity theft",
        r"gehackt|\bbetrug|\bfraude|pirat(é|ead)|hackead",
    ),
    Topic.PERSON: _any(
        r"\b(speak|talk|chat) (to|with) .{0,25}\b(person|human|someone|somebody|agent|manager|supervisor|staff)",
        r"\b(real|actual|living) (person|human)|\bhuman being\b|\b(call|phone|ring) me\b(?! (names|crazy))",
        r"mit (einem|einer) .{0,12}(mensch|mitarbeiter|person|kolleg)|rufen sie mich|rückruf",
        r"parler (à|avec) (un|une|quelqu)|rappelez-moi|un vrai humain|hablar con (una? |alg)|llám[ae]n?me",
    ),
    Topic.DOUBLE_CHARGE: _any(
        r"\b(charged?|billed|debited|paid|taken|took|deducted|booked)\b.{0,40}\b(twice|two times|double|second time)\b",
        r"\bdouble[- ](charge|bill|payment|debit)|\bduplicate (charge|payment|debit)",
        r"\b(two|2) (\w+ )?(charges|payments|debits)\b|\bsecond (charge|payment|debit)\b",
        r"(doppelt|zweimal|zwei mal)\w* .{0,20}(ab|belast|bezahl|berechn|buch|gebucht)",
        r"(zwei|doppelte) (abbuchung|zahlung)",
        r"(débit|prélev|pay|factur)\w*.{0,25}(deux fois|double)|(double|deux) (prélèvement|débit|paiement)",
        r"(cobr|carg|pag)\w*.{0,25}dos veces|doble (cargo|cobro)|dos (cargos|cobros)",
    ),
    Topic.OVERCHARGED: _any(
        r"\bovercharged?\b|\bcharged .{0,12}(too much|more than)|zu viel (ab|berechn|bezahl)|zu hoher betrag",
        r"(débit|factur|pay)\w* .{0,10}trop|cobrad\w+ (de más|demasiado)",
    ),
    Topic.GOODWILL: _any(
        r"\bgoodwill\b|\bdiscount\b|\bvoucher\b|\bcompensat|\bcheaper\b|\bprice (drop|match|adjust|difference)",
        r"\bprice .{0,20}(fell|dropped|went down|reduced|lower)|\brefund .{0,12}the difference\b",
        r"\brabatt|\bgutschein|entschädigung|\bkulanz|preis .{0,20}(gesenkt|gefallen|reduziert)|preisdifferenz",
        r"\bremise\b|geste commercial|dédommag|bon d'achat|baissé|\bdescuento|compensación|rebajad",
    ),
    Topic.ADDRESS: _any(
        r"\b(change|update|correct|wrong|new|different|another|old)\b.{0,25}\baddress",
        r"\baddress\b.{0,25}\b(change|wrong)",
        r"\b(send|deliver|ship|redirect|forward)\b.{0,60}\b(instead\b(?! of a)|somewhere else|elsewhere)",
        r"\b(send|deliver|ship|go|redirect)\b.{0,12} to my (office|work|mother|father|sister|brother|parents|new)",
        r"\bshould go to\b|(neue|andere|falsche|geändert)\w* .{0,12}(adresse|anschrift)|adresse .{0,12}(änder|falsch)",
        r"umgezogen|umleiten|changement d.adresse|(autre|nouvelle|mauvaise|changer) .{0,12}adresse",
        r"livrer.{0,45}\bchez\b",
        r"(otra|nueva|cambi\w+) .{0,14}dirección|dirección .{0,15}(equivocada|nueva)|lieferadresse .{0,30}änder",
    ),
    Topic.CANCEL: _any(r"\bcancel", r"\bstornier|\bstorno", r"\bannul(er|ation|ez)\b", r"\banul(ar|en|e|ación)\b"),
    Topic.DAMAGED: _any(
        r"\b(broken?|cracks?|cracked|shattered|smashed|chipped|damaged?)\b",
        r"\b(scratched|torn|tear of|dent(s|ed)?|bent|ripped)\b",
        r"\bin pieces\b|\b(has|had|with) .{0,12}\b(hole|split)\b|\bsplit (when|in|across|down)|\bhad split\b",
        r"\bsnapped\b",
        r"kaputt|beschädig|zerbroch|zerkratzt|zersprung|gesprungen|gerissen|verbogen|verbeult|scherben|\briss\b",
        r"\bcass(é|ée|és|ées)\b|abîmé|endommagé|brisé|fêlé|ébréché|déchiré|rayée?\b",
        r"\b(rot[oa]s?|dañad|rajad|agrietad|abollad|rasgad)",
    ),
    Topic.FAULTY: _any(
        r"\bfaulty\b|\bdefect|\b(does not|doesn.t|won.t|will not) (work|turn on|switch|close|hold|light)",
        r"stopped working",
        r"\b(came|coming|comes|fell|falling) (off|apart)\b|\bpeel|\bflak(es|ing)\b|\bwobbl",
        r"manufactur\w+ (fault|defect)",
        r"\bdefekt|funktioniert nicht|geht nicht (an|mehr)|wackelt|défectueu|ne (marche|fonctionne)|defectuos",
        r"no funciona",
    ),
    Topic.WRONG_ITEM: _any(
        r"\bwrong (item|product|colou?r|size|article|one|thing|goods|(?!address|amount)\w+ (in|sent|delivered))\b",
        r"\binstead of (the|a|an|my|what)\b|\bnot (what|the one|the \w+) (I|we) ordered",
        r"\bsomething else\b.{0,20}\b(box|parcel)",
        r"\bordered\b.{0,80}(\band|\bbut|,|;)\s*(I |we )?(received|got)\b",
        r"falsche\w* (artikel|farbe|größe|produkt|ware|geliefert)|\bstatt (der|des|dem|einer?)\b|nicht bestellt",
        r"mauvais\w* (article|couleur|produit|taille)|au lieu (de|du)|equivocad|en (lugar|vez) de",
    ),
    Topic.MISSING_ITEM: _any(
        r"\bmissing (?!(the |my )?order)\w+|\b(is|was|are|were) missing\b|\bincomplete\b",
        r"\bonly (one|two|three|\d+) (in|of|came|arrived|was|were)\b",
        r"\b(fehlt|fehlen|fehlte)\b|unvollständig|\bmanqu(e|ait|ent|ant)|\bfalta(n|ba)?\b",
    ),
    Topic.RETURNED: _any(
        r"\b(sent|shipped|posted) .{0,40}\bback\b|\b(I|we)( have|'ve)? (already )?returned\b",
        r"zurückgeschickt|zurückgesendet|\b(ai|avons) (déjà )?(renvoyé|retourné)|\b(he|hemos) (ya )?devuelto",
    ),
    Topic.TRACK: _any(
        r"\bwhere\b(?!.{0,15}(refund|money)).{0,60}(parcel|package|order|delivery|shipment|\bO-\d|\bis\b|got to)",
        r"\bwhereabouts\b",
        r"\bwhen\b.{0,60}\b(arriv\w+|delivered|come|get here|expect)|\b(which|what) day\b.{0,25}\bexpect|\btracking\b",
        r"\b(has|have)(n't| not|nt)\b.{0,25}\b(arrived|come|received|turned up)|\bbeen (shipped|dispatched|sent)\b",
        r"\bnot (yet )?(arrived|received|here)\b",
        r"\bnever (arrived|came|received|turned up|showed up|got)|\bstill (waiting|no sign)|\bno parcel\b",
        r"\b(late|delayed|overdue)\b|\bshould have (been here|arrived)|\b(is|got|been|gone|went) lost\b",
        r"\blost (in|parcel)",
        r"\bwo (ist|bleibt|steckt)\b|(nicht|nie) (angekommen|erhalten|geliefert|da)\b|verspät|sendungsverfolg",
        r"wann kommt",
        r"\boù (est|en est|se trouve|sont)\b|\b(pas|rien) (encore )?(reçu|arrivée?)|\bjamais (reçu|arrivé)|en retard",
        r"dónde (está|queda|anda)|por dónde va|no (ha|han|he) (llegado|recibido)|nunca (llegó|recibí)|retras(o|ado)",
    ),
    Topic.REFUND: _any(
        r"\brefund|\bmoney (back|for)\b|\breimburs|\b(give|pay)\b.{0,30}\bback\b|\bprice of .{0,40}back\b",
        r"erstatt|geld .{0,12}zurück|rembours|reembols|devol\w+ .{0,15}(dinero|importe)|dinero de vuelta",
    ),
    Topic.VAGUE: _any(
        r"\b(problem|issue|trouble|not (right|ok|okay|happy|how|as it)|something (is )?wrong|disappoint|help)",
        r"\b(hilfe|stimmt (etwas )?nicht|nicht in ordnung|problème|aidez|ayuda|problema)",
    ),
}
"""How each topic sounds. Questions have `SUBJECTS` instead."""


class Subject(NamedTuple):
    """Something our articles speak about."""

    sign: re.Pattern[str]
    query: str
    """English words to search with."""
    with_goods: bool = False
    """Whether the answer depends on the goods, so that they belong in the query."""


DAMAGE = "damaged faulty arrives"
"""English words to search with for what would happen if something broke."""

RETURNS = Subject(
    _any(
        r"\breturn(s|ing|ed)?\b(?! the (second|other|payment|money|amount))(?! to (you|sender))",
        r"\bsend .{0,25}\bback\b|\bexchange\b|retoure|zurück(schick|geb|send)|rücksend|rückgabe|umtausch",
        r"\bretours?\b|\bretourner\b|\brenvoyer\b|\bdevolver\b(?!.{0,12}(dinero|importe))|\bdevolución\b",
    ),
    "return unused item",
)

WARRANTY = Subject(_any(r"\bwarrant|\bguarantee\b|\bgarantie|\bgarantía|gewährleistung"), "two-year warranty")

RESERVATIONS = Subject(
    _any(
        r"\breserv(ed|ation)|\b(not|nothing) .{0,12}(paid|charged)\b|\bwhen .{0,25}\b(charged?|debited)\b",
        r"\bpayment (go|went|gone) (wrong|through)|vorgemerkt|reserviert|réserv(é|ation) .{0,20}(banc|cart|mont)",
        r"wann .{0,25}(abgebucht|belastet)|reservad",
    ),
    "card charged reservation bank",
)

SUBJECTS = (
    RETURNS,
    Subject(
        _any(
            r"\b(how|what|which|can|may|should|best).{0,50}\b(wash|clean|care|polish|oil|iron|tumble|dishwasher|bleach)",
            r"\b(tumble dryer|dishwasher)\b|\b(wie|kann|darf).{0,50}(wasch|reinig|pfleg|trockner|spülmaschine)",
            r"\b(comment|puis-je|peut-on).{0,50}(lav|nettoy|entret)|\b(cómo|puedo|se puede).{0,50}(lav|limpi|cuid)",
        ),
        "caring washing",
        with_goods=True,
    ),
    WARRANTY,
    Subject(
        _any(
            r"\bopening (hours|times)|\bare you open\b|\bopen on\b|öffnungszeit|geöffnet|d.ouverture|horario",
            r"\b(your|a) (shop|store|showroom)\b.{0,30}\b(visit|where|open)|\bvisit .{0,15}(shop|store|showroom)",
        ),
        "store opening hours",
    ),
    Subject(
        _any(
            r"\b(do|can|will|could) you (also )?(deliver|ship) to\b|\bliefern sie\b.{0,20}\b(nach|in|ins)\b",
            r"livrez[- ]vous|\b(envían|enviáis|hacen envíos|entregan) a",
        ),
        "countries we deliver to",
    ),
    Subject(
        _any(
            r"\bhow long\b.{0,40}\b(deliver|shipping|ship|take to arrive)|\bdelivery (time|cost)|\bshipping cost",
            r"\b(need|have) to be (at )?(home|in)\b.{0,15}(for|when)|\bappointment\b|wie lange dauert|versandkosten",
            r"(délai|frais|temps).{0,20}livraison|cuánto tarda|gastos de envío|plazo de entrega",
        ),
        "delivery times",
    ),
    RESERVATIONS,
    Subject(
        _any(
            r"\b(when|how long)\b.{0,40}\brefund\w*\b.{0,25}\b(arrive|take|see|show|account)|\brefund.{0,15}how long",
            r"wie lange .{0,25}erstattung|quand .{0,25}remboursement|cuándo .{0,25}reembolso",
        ),
        "refunds paid card bank",
    ),
    Subject(
        _any(r"\bmembership\b|\blarkspur plus\b|\bplus member|mitgliedschaft|adhésion|membresía"), "Plus membership"
    ),
    Subject(
        _any(r"\binvoice\b|\bVAT\b|\brechnung\b(?! gestellt)|mehrwertsteuer|\bfacture\b|\bfactura\b|\bTVA\b|\bIVA\b"),
        "invoice VAT",
    ),
)

ANGER = _any(
    r"!!+|\b(rubbish|disgrace|unacceptable|ridiculous|furious|outrage|terrible|appalling|awful|worst|angry|fed up)",
    r"\b(frechheit|unverschämt|sauer|wütend|saftladen|inacceptable|scandal|honte|furieu|inaceptable|vergüenza)",
)
NEGATION = _any(r"\b(don.t|do not|not|no|never|without|rather than|kein\w*|nicht|pas|sans|sin)\b[^.;]{0,28}$")
"""Text right before a word that takes its meaning away."""
HYPOTHETICAL = _any(r"\b(if|in case|what happens (when|if)|suppose|falls|au cas où|en caso)\b")
NOTHING_CAME = _any(
    r"\bno parcel\b|\bnothing (here|came|there|arrived)",
    r"\b(never|not|n't|n’t) .{0,20}(arrived|received|come|came|got)\b",
    r"\bnever (came|got|turned up)|\bthere is nothing\b|nichts (da|angekommen|erhalten)",
    r"(nicht|nie) .{0,15}(erhalten|angekommen)",
    r"(pas|rien|jamais) .{0,15}(reçu|arrivé)|no (ha|han|he|lo he) (llegado|recibido)|nunca .{0,10}(llegó|recib)",
)
"""The customer does not have what was sent."""
ACCOUNT_ADDRESS = _any(
    r"\b(account|profile|on file|my records)\b|\b(mein\w* konto|kundenkonto)\b|\bmon (compte|profil)\b",
    r"\bmi (cuenta|perfil)\b",
)
THANKS = _any(
    r"\b(thanks|thank you|thx|cheers|great|perfect|wonderful|appreciate)",
    r"\b(danke|dank|super|prima)\b",
    r"\bmerci\b|\bgracias\b",
)
TAKEN_BACK = _any(
    r"\bnever ?mind\b|\bforget (it|about|the|my)\b|\b(no longer|don.t|do not) (need|want)\b|\bnot needed\b",
    r"\b(sorted|resolved|solved|settled|cleared up|cleared itself)\b",
    r"\b(found it|turned up|it (has )?(just )?arrived)\b",
    r"\bcancel (my|the|this|that) (refund|request|ticket|complaint)|\bwithdraw\b",
    r"hat sich (schon )?erledigt|schon gut\b|vergessen sie es|nicht mehr (nötig|gebraucht)|brauche .{0,25}nicht mehr",
    r"laissez tomber|n.est plus nécessaire|(c.est|est) (réglé|résolu)|oubliez",
    r"olvíd[ea]lo|ya no (hace falta|lo necesito|es necesario)|ya está (resuelto|solucionado|arreglado)",
)
"""A later letter that takes back what was asked for."""
OF_THE_REQUEST = _any(r"\bcancel (my|the|this|that) (refund|request|ticket|complaint)")
"""What is to be cancelled is what was asked of us, and no order."""
INSTEAD = _any(
    r"\b(actually|instead|rather|on second thoughts?|changed (my|our) minds?)\b",
    r"\b(doch lieber|stattdessen|umentschieden|finalement|plutôt|mejor|en realidad|al final)\b",
)
"""A later letter that puts something else in the place of what was asked for."""
