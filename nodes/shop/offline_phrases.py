"""What the offline model writes to customers, in the four languages it knows."""

from __future__ import annotations

from typing import NamedTuple


class Phrase(NamedTuple):
    """One message in every language, with the same `{fields}`."""

    en: str
    de: str
    fr: str
    es: str

    def say(self, language: str, **fields: object) -> str:
        """In the language, or in English when it is another."""
        text: str = getattr(self, language) if language in self._fields else self.en
        return text.format(**fields)


GREETING = Phrase("Hello {name},", "Guten Tag {name},", "Bonjour {name},", "Hola, {name}:")
SORRY = Phrase(
    "We are sorry for the trouble this has caused you.",
    "Es tut uns leid, dass Sie diesen Ärger hatten.",
    "Nous sommes désolés pour ce désagrément.",
    "Sentimos mucho las molestias.",
)
SIGNATURE = Phrase(
    "Kind regards\nLarkspur Home",
    "Freundliche Grüße\nLarkspur Home",
    "Cordialement,\nLarkspur Home",
    "Un saludo,\nLarkspur Home",
)
COLLEAGUE = Phrase(
    "A colleague will write to you about the rest of your message.",
    "Zum Rest Ihrer Nachricht meldet sich eine Kollegin oder ein Kollege.",
    "Un collègue vous répondra pour le reste de votre message.",
    "Otra persona del equipo le responderá sobre el resto de su mensaje.",
)
STOPPED = Phrase(
    "Thank you for letting us know. We do nothing more about it; what was done before your message stays as it is. If "
    "you need us after all, just write again.",
    "Danke für Ihre Nachricht. Wir unternehmen in der Sache nichts weiter; was vor Ihrer Nachricht geschehen ist, "
    "bleibt so. Wenn Sie uns doch noch brauchen, schreiben Sie einfach wieder.",
    "Merci de nous avoir prévenus. Nous n'entreprenons plus rien ; ce qui a été fait avant votre message reste tel "
    "quel. Si vous avez finalement besoin de nous, écrivez-nous à nouveau.",
    "Gracias por avisarnos. No haremos nada más al respecto; lo hecho antes de su mensaje queda como está. Si al final "
    "nos necesita, vuelva a escribirnos.",
)
WELCOME = Phrase(
    "You are welcome. If anything else comes up, just write to us again.",
    "Gern geschehen. Wenn noch etwas ist, schreiben Sie uns einfach wieder.",
    "Avec plaisir. Si vous avez besoin d'autre chose, écrivez-nous à nouveau.",
    "De nada. Si surge algo más, vuelva a escribirnos.",
)

REFUNDED = Phrase(
    "We have refunded {amount} for order {order}. It goes back to the card you paid with; depending on your bank, it "
    "shows up within 5 to 10 days.",
    "Wir haben Ihnen {amount} für die Bestellung {order} erstattet. Der Betrag geht auf die Karte zurück, mit der Sie "
    "bezahlt haben; je nach Bank sehen Sie ihn in 5 bis 10 Tagen.",
    "Nous vous avons remboursé {amount} pour la commande {order}. La somme revient sur la carte utilisée pour le "
    "paiement ; selon votre banque, elle apparaît sous 5 à 10 jours.",
    "Le hemos reembolsado {amount} del pedido {order}. El importe vuelve a la tarjeta con la que pagó; según su banco, "
    "aparecerá en un plazo de 5 a 10 días.",
)
REFUNDED_BEFORE = Phrase(
    "Order {order} was already refunded: {amount} on {date}, to the card you paid with. Depending on your bank, a "
    "refund shows up within 5 to 10 days.",
    "Die Bestellung {order} wurde bereits erstattet: {amount} am {date}, auf die Karte, mit der Sie bezahlt haben. Je "
    "nach Bank sehen Sie den Betrag in 5 bis 10 Tagen.",
    "La commande {order} a déjà été remboursée : {amount} le {date}, sur la carte utilisée pour le paiement. Selon "
    "votre banque, un remboursement apparaît sous 5 à 10 jours.",
    "El pedido {order} ya fue reembolsado: {amount} el {date}, en la tarjeta con la que pagó. Según su banco, un "
    "reembolso aparece en un plazo de 5 a 10 días.",
)
TOO_LATE = Phrase(
    "We are sorry: order {order} could be refunded until {last}, and that day has passed, so we cannot refund it.",
    "Leider war eine Erstattung der Bestellung {order} nur bis {last} möglich; wir können sie nicht mehr erstatten.",
    "Nous sommes désolés : la commande {order} pouvait être remboursée jusqu'au {last}. Nous ne pouvons plus le faire.",
    "Lo sentimos: el pedido {order} se podía reembolsar hasta el {last}, así que ya no podemos reembolsarlo.",
)
NOTHING_CHARGED = Phrase(
    "Your card is only charged when we dispatch an order. Nothing has been charged for order {order}, so there is "
    "nothing to refund.",
    "Wir belasten Ihre Karte erst beim Versand. Für die Bestellung {order} wurde noch nichts abgebucht, es gibt also "
    "nichts zu erstatten.",
    "Votre carte n'est débitée qu'à l'expédition. Rien n'a été débité pour la commande {order} : il n'y a donc rien à "
    "rembourser.",
    "Solo cobramos al enviar el pedido. Por el pedido {order} no se ha cobrado nada, así que no hay nada que "
    "reembolsar.",
)
CHARGED_ONCE = Phrase(
    "We see one charge for order {order}: {amount} on {date}. If your statement shows a second one as settled, please "
    "send us the date and amount of both lines.",
    "Wir sehen für die Bestellung {order} eine Abbuchung: {amount} am {date}. Wenn Ihr Kontoauszug eine zweite als "
    "gebucht zeigt, schicken Sie uns bitte Datum und Betrag beider Zeilen.",
    "Nous voyons un seul débit pour la commande {order} : {amount} le {date}. Si votre relevé en montre un "
    "second, déjà comptabilisé, envoyez-nous la date et le montant des deux lignes.",
    "Vemos un solo cargo del pedido {order}: {amount} el {date}. Si su extracto muestra un segundo cargo ya "
    "contabilizado, envíenos la fecha y el importe de ambos.",
)

TRACKED = Phrase(
    "Order {order} is on its way with {carrier}, tracking number {number}. It is expected on {expected}. The carrier's "
    "latest word, from {place} on {date}: “{what}”.",
    "Die Bestellung {order} ist mit {carrier} unterwegs, Sendungsnummer {number}. Sie wird am {expected} erwartet. "
    "Letzte Meldung, aus {place} am {date}: „{what}“.",
    "La commande {order} est en route avec {carrier}, numéro de suivi {number}. Elle est attendue le {expected}. "
    "Dernière nouvelle du transporteur, de {place} le {date} : « {what} ».",
    "El pedido {order} está en camino con {carrier}, número de seguimiento {number}. Se espera para el {expected}. "
    "Última noticia del transportista, desde {place} el {date}: «{what}».",
)
TRACKED_LATE = Phrase(
    "We are sorry: order {order} should have reached you on {expected} and is {days} days late. It is with {carrier}, "
    "tracking number {number}; the latest word, from {place} on {date}: “{what}”. It does not count as lost: most late "
    "parcels still arrive within days. If nothing moves for {lost} days, we refund it or send it again, as you prefer.",
    "Leider sollte die Bestellung {order} schon am {expected} bei Ihnen sein und ist {days} Tage verspätet. "
    "Sie ist bei {carrier}, Sendungsnummer {number}; letzte Meldung, aus {place} am {date}: „{what}“. Sie gilt nicht "
    "als verloren. Bewegt sich {lost} Tage lang nichts, erstatten wir sie oder senden sie erneut, wie Sie möchten.",
    "Nous sommes désolés : la commande {order} devait arriver le {expected} et a {days} jours de retard. Elle est chez "
    "{carrier}, numéro de suivi {number} ; dernière nouvelle, de {place} le {date} : « {what} ». Elle n'est pas "
    "considérée comme perdue. Si rien ne bouge pendant {lost} jours, nous la remboursons ou la renvoyons, à "
    "votre choix.",
    "Lo sentimos: el pedido {order} debía llegar el {expected} y lleva {days} días de retraso. Lo tiene {carrier}, "
    "número de seguimiento {number}; última noticia, desde {place} el {date}: «{what}». No se considera perdido. Si no "
    "se mueve en {lost} días, lo reembolsamos o lo enviamos de nuevo, como prefiera.",
)
LOST = Phrase(
    "We are sorry: the tracking of order {order} has not moved since {date}, so we treat the parcel as lost. Would you "
    "like your money back, or shall we send it again?",
    "Leider hat sich die Sendung zur Bestellung {order} seit dem {date} nicht bewegt; wir betrachten sie als verloren. "
    "Möchten Sie Ihr Geld zurück, oder sollen wir sie erneut senden?",
    "Nous sommes désolés : le suivi de la commande {order} n'a pas bougé depuis le {date}, nous considérons le colis "
    "comme perdu. Préférez-vous un remboursement ou un nouvel envoi ?",
    "Lo sentimos: el envío del pedido {order} no se mueve desde el {date} y lo damos por perdido. ¿Prefiere que le "
    "devolvamos el dinero o que lo enviemos de nuevo?",
)
PREPARING = Phrase(
    "Order {order} has not been dispatched yet; we are preparing it. You will get a tracking number when it leaves.",
    "Die Bestellung {order} ist noch nicht versandt; wir bereiten sie vor. Beim Versand erhalten Sie eine "
    "Sendungsnummer.",
    "La commande {order} n'est pas encore expédiée ; nous la préparons. Vous recevrez un numéro de suivi à son départ.",
    "El pedido {order} aún no ha salido; lo estamos preparando. Recibirá un número de seguimiento cuando salga.",
)
DELIVERED = Phrase(
    "According to {carrier}, order {order} was delivered on {date}.",
    "Laut {carrier} wurde die Bestellung {order} am {date} zugestellt.",
    "Selon {carrier}, la commande {order} a été livrée le {date}.",
    "Según {carrier}, el pedido {order} se entregó el {date}.",
)
IS_CANCELLED = Phrase(
    "Order {order} is cancelled and will not be sent. Your card is not charged for it.",
    "Die Bestellung {order} ist storniert und wird nicht versandt. Ihre Karte wird dafür nicht belastet.",
    "La commande {order} est annulée et ne sera pas expédiée. Votre carte n'est pas débitée.",
    "El pedido {order} está cancelado y no se enviará. No se cobra nada en su tarjeta.",
)
CANCEL_TOO_LATE = Phrase(
    "Unfortunately order {order} can no longer be cancelled: it is {stage}. You can return it unused within "
    "{days} days after delivery, and we refund it then.",
    "Leider lässt sich die Bestellung {order} nicht mehr stornieren: Sie ist {stage}. Sie können sie innerhalb von "
    "{days} Tagen nach der Lieferung unbenutzt zurücksenden; dann erstatten wir sie.",
    "Malheureusement, la commande {order} ne peut plus être annulée : elle est {stage}. Vous pouvez la renvoyer "
    "inutilisée dans les {days} jours suivant la livraison ; nous la rembourserons alors.",
    "Lamentablemente, el pedido {order} ya no se puede cancelar: está {stage}. Puede devolverlo sin usar en los {days} "
    "días siguientes a la entrega, y entonces lo reembolsaremos.",
)
PACKING_STAGE = Phrase("being packed", "in der Verpackung", "en préparation", "en preparación")
SHIPPED_STAGE = Phrase("already on its way", "schon unterwegs", "déjà en route", "ya en camino")
DELIVERED_STAGE = Phrase("already delivered", "schon zugestellt", "déjà livrée", "ya entregado")
ADDRESS_CHANGED = Phrase(
    "Order {order} now goes to: {address}.",
    "Die Bestellung {order} geht jetzt an: {address}.",
    "La commande {order} sera livrée à : {address}.",
    "El pedido {order} se enviará a: {address}.",
)
ADDRESS_TOO_LATE = Phrase(
    "Order {order} has already left us, and from then on only the carrier can redirect it. Please use the redirect "
    "function on the tracking page of {carrier} with your tracking number {number}.",
    "Die Bestellung {order} hat unser Lager schon verlassen; jetzt kann nur noch der Paketdienst sie umleiten. Bitte "
    "nutzen Sie die Umleitung auf der Sendungsseite von {carrier} mit Ihrer Sendungsnummer {number}.",
    "La commande {order} a déjà quitté notre entrepôt ; seul le transporteur peut désormais la rediriger. Utilisez la "
    "redirection sur la page de suivi de {carrier} avec votre numéro de suivi {number}.",
    "El pedido {order} ya ha salido y solo el transportista puede desviarlo. Use la opción de desvío en la página de "
    "seguimiento de {carrier} con su número de seguimiento {number}.",
)

ARTICLE = Phrase(
    "Our help page “{title}” says: {snippet}",
    "Auf unserer Hilfeseite „{title}“ steht dazu (auf Englisch): {snippet}",
    "Notre page d'aide « {title} » indique (en anglais) : {snippet}",
    "Nuestra página de ayuda «{title}» dice (en inglés): {snippet}",
)
RETURN_UNTIL = Phrase(
    "Yes: order {order} was delivered on {date}, and you can return it unused until {last}.",
    "Ja: Die Bestellung {order} wurde am {date} zugestellt, und Sie können sie unbenutzt bis {last} zurücksenden.",
    "Oui : la commande {order} a été livrée le {date}, et vous pouvez la renvoyer inutilisée jusqu'au {last}.",
    "Sí: el pedido {order} se entregó el {date}, y puede devolverlo sin usar hasta el {last}.",
)
RETURN_OVER = Phrase(
    "Order {order} was delivered on {date}; it could be returned until {last}, and that day has passed.",
    "Die Bestellung {order} wurde am {date} zugestellt; sie konnte bis {last} zurückgesandt werden, dieser Tag ist "
    "vorbei.",
    "La commande {order} a été livrée le {date} ; elle pouvait être renvoyée jusqu'au {last}, cette date est passée.",
    "El pedido {order} se entregó el {date}; se podía devolver hasta el {last}, y esa fecha ya pasó.",
)

ASK_ORDER = Phrase(
    "Which of your orders is this about? Please send us its number. On your account we see: {orders}.",
    "Um welche Ihrer Bestellungen geht es? Bitte schicken Sie uns die Nummer. In Ihrem Konto sehen wir: {orders}.",
    "De quelle commande s'agit-il ? Merci de nous envoyer son numéro. Sur votre compte, nous voyons : {orders}.",
    "¿De cuál de sus pedidos se trata? Envíenos su número, por favor. En su cuenta vemos: {orders}.",
)
ASK_ITEM = Phrase(
    "Which item of order {order} is this about, and how many pieces? It holds: {items}.",
    "Um welchen Artikel der Bestellung {order} geht es, und um wie viele Stück? Sie enthält: {items}.",
    "De quel article de la commande {order} s'agit-il, et combien de pièces sont concernées ? Elle contient : {items}.",
    "¿De qué artículo del pedido {order} se trata, y de cuántas unidades? Contiene: {items}.",
)
ASK_PROBLEM = Phrase(
    "What is wrong with it? Please tell us what happened (damaged, faulty, wrong, missing, or simply not wanted any "
    "more), so that we can help.",
    "Was ist nicht in Ordnung? Bitte schreiben Sie uns, was passiert ist (beschädigt, defekt, falsch, unvollständig "
    "oder einfach nicht mehr gewünscht), damit wir helfen können.",
    "Quel est le problème ? Dites-nous ce qui s'est passé (article abîmé, défectueux, erroné, manquant ou simplement "
    "plus souhaité), afin que nous puissions vous aider.",
    "¿Cuál es el problema? Cuéntenos qué ha pasado (dañado, defectuoso, equivocado, incompleto o simplemente ya no lo "
    "quiere) para que podamos ayudarle.",
)
ASK_ADDRESS = Phrase(
    "Please send us the complete new address for order {order}: recipient, street and number, postal code, city, "
    "country.",
    "Bitte schicken Sie uns die vollständige neue Adresse für die Bestellung {order}: Empfänger, Straße und "
    "Hausnummer, Postleitzahl, Ort, Land.",
    "Merci de nous envoyer la nouvelle adresse complète pour la commande {order} : destinataire, rue et numéro, code "
    "postal, ville, pays.",
    "Envíenos la nueva dirección completa para el pedido {order}: destinatario, calle y número, código postal, ciudad "
    "y país.",
)
NO_SUCH_ORDER = Phrase(
    "We find no order {order} on the account you write from, and can only speak about orders of that account. Please "
    "check the number, or write to us from the account it was ordered with.",
    "In dem Konto, von dem Sie schreiben, finden wir keine Bestellung {order}, und nur über dessen Bestellungen können "
    "wir Auskunft geben. Bitte prüfen Sie die Nummer, oder schreiben Sie uns aus dem Konto, mit dem bestellt wurde.",
    "Nous ne trouvons pas de commande {order} sur le compte depuis lequel vous écrivez, et ne pouvons parler que des "
    "commandes de ce compte. Vérifiez le numéro, ou écrivez-nous depuis le compte utilisé pour la commande.",
    "No encontramos ningún pedido {order} en la cuenta desde la que escribe, y solo podemos hablar de los pedidos de "
    "esa cuenta. Compruebe el número o escríbanos desde la cuenta con la que se hizo el pedido.",
)
NO_ORDERS = Phrase(
    "We find no order on the account you write from. If you ordered with another one, please write to us from there.",
    "In dem Konto, von dem Sie schreiben, finden wir keine Bestellung. Wenn Sie mit einem anderen bestellt haben, "
    "schreiben Sie uns bitte von dort.",
    "Nous ne trouvons aucune commande sur le compte depuis lequel vous écrivez. Si vous avez commandé avec un autre, "
    "écrivez-nous depuis celui-ci.",
    "No encontramos pedidos en la cuenta desde la que escribe. Si pidió con otra, escríbanos desde ella.",
)
