"""Why a stage failed, in the language of the client that reads it."""

_FRENCH = {
    "ai-budget-exhausted": "Les appels d'IA de ce client sont épuisés pour ce mois.",
    "child-died": "Le processus qui traitait l'image s'est arrêté.",
    "cpu-limit": "L'image demande plus de temps de calcul que ce serveur n'en accorde.",
    "internal-error": "Une erreur est survenue dans Imago.",
    "model-unavailable": "Le modèle de vision n'est pas installé sur ce serveur.",
    "ocr-engine-missing": "Le moteur de lecture de texte n'est pas installé sur ce serveur.",
    "ocr-failed": "Le moteur de lecture de texte a échoué sur cette page.",
    "ocr-language-missing": "Ce serveur ne sait pas lire l'une des langues choisies.",
    "original-missing": "L'image enregistrée a disparu.",
    "out-of-memory": "L'image demande plus de mémoire que ce serveur n'en accorde.",
    "provider-answer-invalid": "La réponse du fournisseur d'IA n'était pas valable.",
    "provider-error": "Le fournisseur d'IA a échoué.",
    "provider-misconfigured": "Le fournisseur d'IA refuse le compte ou le modèle de ce serveur.",
    "provider-paused": "Les appels au fournisseur d'IA sont suspendus après des échecs ou des limitations.",
    "provider-refused": "Le fournisseur d'IA ne peut pas traiter ce contenu.",
    "provider-throttled": "Le fournisseur d'IA limite les demandes.",
    "provider-timeout": "Le fournisseur d'IA a mis trop de temps à répondre.",
    "provider-unavailable": "Le fournisseur d'IA n'est pas disponible.",
    "safety-block": "Le fournisseur d'IA refuse de traiter ce contenu.",
    "stage-timeout": "Le traitement a duré trop longtemps.",
    "too-many-pixels": "L'image a plus de pixels que ce serveur n'en décode.",
    "truncated-image": "Le fichier se termine avant l'image.",
    "undecodable-image": "L'image ne peut pas être décodée.",
    "unsupported-image": "Ce type d'image n'est pas pris en charge.",
    "worker-lost": "Tous les processus qui ont essayé ce traitement se sont arrêtés.",
}


def localized(code: str | None, text: str | None, *, language: str) -> str | None:
    """Return the text of an error code in French for French, else as it is stored."""
    return _FRENCH.get(code or "", text) if language == "fr" else text
