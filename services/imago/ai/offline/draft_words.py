"""The words that drafts of tasks go by, in English and French."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class DraftWords:
    """What tells demands, conditions, purposes and hurry in one language, and what the draft says of its own."""

    language: str
    demand: re.Pattern[str]
    """A sentence that asks for something to be done."""
    sequence: re.Pattern[str]
    """What stands between two demands of one sentence."""
    politeness: re.Pattern[str]
    """What stands before a demand without adding to it."""
    condition: re.Pattern[str]
    purpose: re.Pattern[str]
    criteria_heading: re.Pattern[str]
    duration: re.Pattern[str]
    low: re.Pattern[str]
    urgent: re.Pattern[str]
    high: re.Pattern[str]
    fulfilled: str
    """The criterion where the text has none; takes the objective."""
    guesses: tuple[str, str, str]
    """Estimates for few, some and many steps."""
    dull: frozenset[str]
    """Words that make no good tags."""


def _any(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)", re.IGNORECASE)


_ENGLISH_VERBS = (
    "add|adjust|analy[sz]e|ask|audit|book|build|buy|call|change|check|clean|collect|compare|configure|contact|convert|"
    "copy|create|cut|decide|define|delete|deploy|describe|design|disable|document|draft|draw|email|enable|export|find|"
    "fix|gather|get|implement|import|improve|install|inspect|investigate|list|make|measure|merge|migrate|monitor|move|"
    "order|organi[sz]e|pack|paint|plan|prepare|print|publish|read|record|reduce|refactor|release|remove|rename|renew|"
    "repair|replace|reply|report|research|resize|restart|restore|review|rewrite|run|schedule|scan|send|set|setup|show|"
    "sort|start|stop|switch|tag|take|test|track|translate|train|try|update|upgrade|upload|validate|verify|write"
)

ENGLISH = DraftWords(
    language="en",
    demand=re.compile(
        r"(?<!\w)(?:please|must|should|need(?:s|ed)? to|ha(?:ve|s) to|want (?:you )?to|let's|could you|"
        rf"can you|make sure|remember to)(?!\w)|^(?:(?:first|then|next|finally|also),? )?(?:{_ENGLISH_VERBS})(?!\w)",
        re.IGNORECASE,
    ),
    sequence=re.compile(
        rf"; (?:then |and )?|,? (?:and )?then |, (?:and )?(?=(?:{_ENGLISH_VERBS}) )| and (?=(?:{_ENGLISH_VERBS}) )",
        re.IGNORECASE,
    ),
    politeness=re.compile(
        r"^(?:(?:please|hello|hi|first|then|next|finally|also|so)[,!]? |"
        r"(?:we|you|i|someone|somebody) (?:really |also )?(?:need|needs|have|has|want|would like|must|should)"
        r"(?: you)?(?: to)? |(?:could|can|would) (?:you|we) (?:please )?|let's |make sure (?:to |that )?|"
        r"remember to |it would be (?:nice|good|great) to |(?:todo|task): ?){1,3}",
        re.IGNORECASE,
    ),
    condition=_any(
        "(?:must|shall|should|has to|have to) (?:not |never |always )?"
        "(?:be|have|take|show|return|work|pass|hold|stay|remain|cost|fit|contain|last|support)",
        "done when",
        "accepted when",
        "at (?:most|least)",
        "no (?:more|less|fewer) than",
        "without (?:errors?|loss|downtime)",
    ),
    purpose=_any("so that", "in order to", "because", "the (?:goal|aim|objective|purpose) is", "to make sure"),
    criteria_heading=re.compile(
        r"^(?:#+ )?\W{0,3}(?:acceptance(?: criteria)?|criteria|definition of done|done when|requirements)\W{0,4}$",
        re.IGNORECASE,
    ),
    duration=_any(
        r"half an? (?:day|hour)",
        r"(?:about |around |at most |up to )?(?:an?|one|two|three|four|five|six|[0-9]{1,3})(?:(?:-| to )[0-9]{1,3})? "
        r"?(?:minutes?|mins?|hours?|days?|weeks?|months?)(?= (?:of work|to do|should do|is enough)|\W{0,3}$|[.,;)])",
    ),
    low=_any(
        "not urgent",
        "no (?:rush|hurry)",
        "nice to have",
        "low priority",
        "some ?day",
        "whenever",
        "when (?:you have|there is) time",
        "eventually",
    ),
    urgent=_any(
        "urgent(?:ly)?",
        "asap",
        "as soon as possible",
        "immediately",
        "right away",
        "right now",
        "critical",
        "emergency",
        "outage",
        "is down",
        "security (?:hole|issue|incident|breach)",
    ),
    high=_any(
        "important",
        "high priority",
        "today",
        "tonight",
        "tomorrow",
        "this week",
        "deadline",
        "due",
        "block(?:s|ed|er|ing)",
        "(?:by|before|until) (?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|noon)",
        "(?:by|before|until) the end of the (?:day|week)",
    ),
    fulfilled="It has been checked that this is reached: {}.",
    guesses=("half a day", "a day or two", "about a week"),
    dull=frozenset(
        {"also", "done", "each", "every", "have", "make", "must", "need", "needs", "please", "shall", "sure", "that"}
        | {"then", "thing", "things", "today", "tomorrow", "urgent", "want", "week", "when", "with", "asap", "next"}
        | {"first", "finally", "like", "least", "many", "soon", "still", "much", "there", "where", "which", "work"}
    ),
)

_FRENCH_VERBS = (
    "acheter|achetez|achète|ajouter|ajoutez|ajoute|améliorer|améliorez|analyser|analysez|analyse|appeler|appelez|appelle|"
    "archiver|changer|changez|change|chercher|cherchez|choisir|classer|commander|commandez|comparer|comparez|configurer|"
    "configurez|contacter|contactez|contacte|copier|copiez|corriger|corrigez|corrige|créer|créez|crée|décrire|définir|"
    "définissez|demander|demandez|demande|déployer|déployez|documenter|documentez|écrire|écrivez|écris|envoyer|envoyez|"
    "envoie|établir|étudier|exporter|exportez|exporte|faire|faites|fais|importer|importez|importe|imprimer|installer|"
    "installez|installe|lancer|lancez|lance|lire|lister|listez|mesurer|mesurez|mettre|mettez|mets|migrer|migrez|modifier|"
    "modifiez|nettoyer|nettoyez|nettoie|organiser|organisez|planifier|planifiez|préparer|préparez|prépare|prévoir|"
    "publier|publiez|ranger|rangez|recenser|rédiger|rédigez|réduire|relire|relisez|remplacer|remplacez|remplace|renommer|"
    "réparer|réparez|répare|répondre|réserver|réservez|restaurer|retirer|réviser|sauvegarder|supprimer|supprimez|"
    "supprime|tester|testez|teste|traduire|traduisez|traiter|trier|triez|trouver|trouvez|utiliser|valider|validez|"
    "vérifier|vérifiez|vérifie"
)

FRENCH = DraftWords(
    language="fr",
    demand=re.compile(
        r"(?<!\w)(?:merci de|veuillez|il faut|il faudrait|il faudra|à faire|"
        r"(?:nous|on|vous|tu) (?:devons|doit|devez|dois|devrait)|"
        r"(?:peux-tu|pouvez-vous|pourriez-vous|pourrais-tu)|pens(?:er|ez|e) à)(?!\w)|"
        rf"^(?:(?:d'abord|ensuite|puis|enfin|aussi),? )?(?:{_FRENCH_VERBS})(?!\w)",
        re.IGNORECASE,
    ),
    sequence=re.compile(
        rf" ?; (?:puis |et )?|,? (?:et )?(?:puis|ensuite) |, (?:et )?(?=(?:{_FRENCH_VERBS}) )|"
        rf" et (?=(?:{_FRENCH_VERBS}) )",
        re.IGNORECASE,
    ),
    politeness=re.compile(
        r"^(?:(?:bonjour|salut|svp|s'il (?:vous|te) plaît|d'abord|ensuite|puis|enfin|aussi|donc)[ ,!]{1,3}|merci de |"
        r"veuillez |il (?:faut|faudrait|faudra)(?: aussi)? |(?:nous|on|vous|tu) (?:devons|doit|devez|dois|devrait) |"
        r"(?:peux-tu|pouvez-vous|pourriez-vous|pourrais-tu) |pens(?:er|ez|e) à |(?:tâche|à faire) ?: ?){1,3}",
        re.IGNORECASE,
    ),
    condition=_any(
        "(?:doi(?:t|vent)|devr(?:a|ont|aient|ait)) (?:toujours |jamais |tous )?(?:être|avoir|prendre|rester|"
        "fonctionner|passer|tenir|contenir|coûter|durer|montrer|afficher|répondre|accepter)",
        "au (?:plus|moins|maximum|minimum)",
        "pas (?:plus|moins) de",
        "sans (?:erreurs?|perte|interruption)",
        "terminé quand",
        "est fini quand",
    ),
    purpose=_any(
        "afin (?:de|d'\\w+|que|qu'\\w+)", "pour que", "pour qu'\\w+", "parce que", "car", "(?:le but|l'objectif) est"
    ),
    criteria_heading=re.compile(
        r"^(?:#+ )?\W{0,3}(?:critères(?: d['’]acceptation)?|conditions d['’]acceptation|exigences|terminé quand)"
        r"\W{0,4}$",
        re.IGNORECASE,
    ),
    duration=_any(
        r"une demi-(?:journée|heure)",
        r"(?:environ |au plus |au maximum )?(?:une?|deux|trois|quatre|cinq|six|[0-9]{1,3})(?:(?:-| à )[0-9]{1,3})? "
        r"?(?:minutes?|heures?|jours?|journées?|semaines?|mois)(?= (?:de travail|suffi(?:t|sent))|\W{0,3}$|[.,;)])",
    ),
    low=_any(
        "pas urgent",
        "rien ne presse",
        "sans urgence",
        "quand (?:tu as|vous avez|on a|j'aurai) le temps",
        "un jour",
        "priorité basse",
        "basse priorité",
        "éventuellement",
    ),
    urgent=_any(
        "urgente?s?",
        "d'urgence",
        "urgence",
        "au plus vite",
        "dès que possible",
        "immédiatement",
        "tout de suite",
        "critiques?",
        "en panne",
        "hors service",
        "faille",
    ),
    high=_any(
        "importante?s?",
        "prioritaires?",
        "aujourd'hui",
        "ce soir",
        "demain",
        "cette semaine",
        "échéance",
        "date limite",
        "bloqu(?:e|ée?s?|ante?s?)",
        "(?:avant|pour|d'ici) (?:lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|midi)",
        "(?:avant|pour|d'ici) la fin de la (?:journée|semaine)",
    ),
    fulfilled="Il a été vérifié que ceci est atteint : {}.",
    guesses=("une demi-journée", "un à deux jours", "environ une semaine"),
    dull=frozenset(
        {"aujourd", "bonjour", "chose", "choses", "demain", "devons", "doit", "doivent", "faire", "faites", "faudra"}
        | {"faudrait", "faut", "jour", "jours", "merci", "pense", "penser", "plaît", "semaine", "veuillez", "urgent"}
        | {"urgente", "enfin", "ensuite", "abord", "chacun", "possible", "leurs", "aurait", "toutes", "vendredi"}
    ),
)
