"""Kinds of work, recognized by the verb of a task, with what is typical of them: objective, steps and criteria.

They complete a draft whose description says only what to do. `{}` is what the work is about, without the verb.
"""

import re
from dataclasses import dataclass

_MAX_SUBJECT = 160

# What follows is not a part of what the work is about.
_NEXT_CLAUSE = re.compile(
    r"[,;:]? (?:(?:and|et) )?(?:then|so that|in order to|because|puis|ensuite|afin d|pour que|parce qu|car)\b"
    r"|[;:](?: |$)|, (?:and|et) ",
    re.IGNORECASE,
)
_FAULT = re.compile(
    r"\b(?:fails?|failed|broken|breaks|errors?|bugs?|crash(?:es|ed)?|faulty|outage|does(?:n['’]t| not) work|is down"
    r"|en panne|cassée?s?|erreurs?|bogues?|plante|échoue(?:nt)?|défaut|ne (?:marche|fonctionne)(?:nt)? (?:pas|plus))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class WorkKind:
    """A kind of work in one language."""

    objective: str
    steps: tuple[str, ...]
    criteria: tuple[str, ...]


def find_kind(task: str, language: str) -> tuple[WorkKind, str]:
    """Return the kind of a task, and what the work is about: the words behind the verb, or the whole task."""
    for verbs, kind in _KINDS[language]:
        match = verbs.match(task)
        if match and (subject := _subject(task[match.end() :])):
            return kind, subject
    # The first kind is about faults.
    kind = _KINDS[language][0][1] if reports_a_fault(task) else _ANY_KIND[language]
    return kind, _shortened(task) or task


def reports_a_fault(text: str) -> bool:
    """Return whether a text speaks of a fault."""
    return _FAULT.search(text) is not None


def begins_with_a_verb(task: str, language: str) -> bool:
    """Return whether a text begins with one of the known verbs of a language."""
    return any(verbs.match(task) for verbs, _ in _KINDS[language])


def _subject(text: str) -> str:
    clause = _NEXT_CLAUSE.search(text)
    return _shortened(text[: clause.start()] if clause else text)


def _shortened(text: str) -> str:
    text = text.strip(" .:;,!?…")
    return text if len(text) <= _MAX_SUBJECT else text[:_MAX_SUBJECT].rpartition(" ")[0] + "…"


def _verbs(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{'|'.join(text.split(', '))})\s", re.IGNORECASE)


_KINDS: dict[str, tuple[tuple[re.Pattern[str], WorkKind], ...]] = {
    "en": (
        (
            _verbs("fix, repair, resolve, debug, correct, solve, restore"),
            WorkKind(
                "The fault is gone, and people can work as before: {}.",
                (
                    "Reproduce the fault and find its cause",
                    "Correct the cause",
                    "Try it again, with the cases that worked before as well",
                ),
                ("Nobody can reproduce the fault: {}.", "What worked before still works."),
            ),
        ),
        (
            _verbs(
                "add, create, build, implement, develop, introduce, set up, make, install, design, "
                "provide, we need, I need, we want, we would like"
            ),
            WorkKind(
                "What is asked for is available and works: {}.",
                (
                    "Agree on what is needed, and on what is not",
                    "Make a first version and try it",
                    "Correct what the trial has shown, and make it available",
                ),
                (
                    "Someone who did not work on it has tried it successfully: {}.",
                    "Its use is described where people look.",
                ),
            ),
        ),
        (
            _verbs("write, prepare, draft, document, translate, compile, update the documentation of, edit"),
            WorkKind(
                "Those who wait for {} have a complete and checked version.",
                ("Collect the facts and figures", "Write a first version", "Have it checked, then hand it over"),
                ("A second person has checked {} and found no gap.", "Those it is meant for have received it."),
            ),
        ),
        (
            _verbs("organi[sz]e, plan, schedule, arrange, book, host"),
            WorkKind(
                "Everything is ready for {}.",
                (
                    "Agree on the date, the place and who takes part",
                    "Make the bookings and inform everyone",
                    "Confirm shortly before that nothing is missing",
                ),
                ("Everyone concerned knows when and where to be for {}.", "All bookings are confirmed."),
            ),
        ),
        (
            _verbs(
                "migrate, move, upgrade, update, replace, convert, switch, rename, refactor, "
                "improve, optimi[sz]e, change"
            ),
            WorkKind(
                "The change is in effect without loss and with little interruption: {}.",
                (
                    "Record the present state and make a backup",
                    "Make the change on a small part first, then on the rest",
                    "Compare the result with the recorded state, and keep a way back until it is confirmed",
                ),
                ("A comparison of before and after shows no loss: {}.", "Those concerned work with the new state."),
            ),
        ),
        (
            _verbs("delete, remove, clean up, clean, archive, drop, close"),
            WorkKind(
                "What is no longer needed is gone, and nothing else: {}.",
                (
                    "List what is concerned, and who still uses it",
                    "Make a backup",
                    "Remove it, and check what depended on it",
                ),
                ("Nothing of it is left: {}.", "Everything that depended on it still works."),
            ),
        ),
        (
            _verbs(
                "investigate, analy[sz]e, find out, research, compare, evaluate, test, check, "
                "verify, measure, review, audit"
            ),
            WorkKind(
                "Enough is known about {} to decide what to do.",
                (
                    "Write down the questions",
                    "Collect the facts and compare them",
                    "Report the findings with a proposal",
                ),
                (
                    "Every question about {} has an answer with its source.",
                    "The proposal is clear enough to decide on.",
                ),
            ),
        ),
    ),
    "fr": (
        (
            _verbs("réparer, corriger, résoudre, déboguer, dépanner, rétablir, réparez, corrigez"),
            WorkKind(
                "Faire disparaître le défaut et retrouver un usage normal : {}.",
                (
                    "Reproduire le défaut et en trouver la cause",
                    "Corriger la cause",
                    "Refaire l'essai, y compris avec les cas qui marchaient avant",
                ),
                ("Personne ne parvient plus à reproduire le défaut : {}.", "Ce qui marchait avant marche toujours."),
            ),
        ),
        (
            _verbs(
                "ajouter, créer, construire, implémenter, développer, introduire, mettre en place, "
                "installer, concevoir, faire, il nous faut, nous voulons, je voudrais"
            ),
            WorkKind(
                "Rendre disponible ce qui est demandé, en état de marche : {}.",
                (
                    "Se mettre d'accord sur ce qu'il faut, et sur ce qu'il ne faut pas",
                    "Réaliser une première version et l'essayer",
                    "Corriger ce que l'essai a montré, puis mettre en service",
                ),
                (
                    "Une personne qui n'y a pas travaillé en a fait l'essai avec succès : {}.",
                    "Le mode d'emploi se trouve là où on le cherche.",
                ),
            ),
        ),
        (
            _verbs("écrire, rédiger, préparer, documenter, traduire, compléter, relire"),
            WorkKind(
                "Remettre {} à ses destinataires, dans une version complète et relue.",
                (
                    "Rassembler les faits et les chiffres",
                    "Rédiger une première version",
                    "Faire relire, puis transmettre",
                ),
                (
                    "Une deuxième personne a relu {} sans trouver de lacune.",
                    "Les destinataires ont confirmé la réception.",
                ),
            ),
        ),
        (
            _verbs("organiser, planifier, réserver, programmer, prévoir, organisez"),
            WorkKind(
                "Faire en sorte que tout soit prêt pour {}.",
                (
                    "Convenir de la date, du lieu et des participants",
                    "Faire les réservations et prévenir tout le monde",
                    "Confirmer peu avant qu'il ne manque rien",
                ),
                (
                    "Toutes les personnes concernées savent quand et où venir pour {}.",
                    "Toutes les réservations sont confirmées.",
                ),
            ),
        ),
        (
            _verbs(
                "migrer, déplacer, mettre à jour, remplacer, convertir, renommer, améliorer, "
                "optimiser, modifier, changer"
            ),
            WorkKind(
                "Mener le changement à terme sans perte et avec peu d'interruption : {}.",
                (
                    "Relever l'état actuel et faire une sauvegarde",
                    "Changer d'abord une petite partie, puis le reste",
                    "Comparer le résultat à l'état relevé, et garder un retour possible jusqu'à la confirmation",
                ),
                (
                    "La comparaison entre avant et après ne montre aucune perte : {}.",
                    "Les personnes concernées travaillent avec le nouvel état.",
                ),
            ),
        ),
        (
            _verbs("supprimer, retirer, nettoyer, archiver, ranger, effacer, fermer"),
            WorkKind(
                "Se défaire de ce qui ne sert plus, et de rien d'autre : {}.",
                (
                    "Lister ce qui est concerné et qui s'en sert encore",
                    "Faire une sauvegarde",
                    "Supprimer, puis vérifier ce qui en dépendait",
                ),
                ("Il n'en reste rien : {}.", "Tout ce qui en dépendait marche toujours."),
            ),
        ),
        (
            _verbs("analyser, étudier, rechercher, comparer, évaluer, tester, vérifier, mesurer, examiner, chercher"),
            WorkKind(
                "En savoir assez sur {} pour décider de la suite.",
                (
                    "Noter les questions",
                    "Rassembler les faits et les comparer",
                    "Rendre compte des conclusions avec une proposition",
                ),
                (
                    "Chaque question sur {} a une réponse avec sa source.",
                    "La proposition est assez claire pour décider.",
                ),
            ),
        ),
    ),
}

_ANY_KIND = {
    "en": WorkKind(
        "Those concerned have the result they need: {}.",
        (
            "Clarify with those concerned what the result has to be",
            "Do the work in small parts, and check each of them",
            "Show the result to those concerned",
        ),
        ("Those concerned have seen the result and agree.", "What is left open is written down as a further task."),
    ),
    "fr": WorkKind(
        "Donner aux personnes concernées le résultat attendu : {}.",
        (
            "Préciser le résultat attendu avec les personnes concernées",
            "Faire le travail par petites parties, et vérifier chacune",
            "Montrer le résultat aux personnes concernées",
        ),
        (
            "Les personnes concernées ont vu le résultat et l'acceptent.",
            "Ce qui reste ouvert est noté comme une autre tâche.",
        ),
    ),
}
