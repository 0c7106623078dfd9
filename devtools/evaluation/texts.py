"""Sentences for pages, and words for signs, tables and receipts, in French and English."""

SENTENCES = {
    "fr": (
        "La bibliothèque municipale rouvre ses portes mardi après six mois de travaux.",
        "Veuillez agréer, Madame, Monsieur, l'expression de nos salutations distinguées.",
        "La facture nº 2024-0871 s'élève à 1 284,50 € toutes taxes comprises.",
        "Où se trouve la clé du grenier ? Personne ne l'a revue depuis Noël.",
        "Les élèves de cinquième ont planté trente-deux châtaigniers derrière le gymnase.",
        "Le phare s'allume au crépuscule et sa lumière porte à plus de vingt milles.",
        "Ça y est, le maître d'hôtel a enfin reçu les couverts en argent.",
        "Pour résilier votre contrat, envoyez une lettre avec accusé de réception.",
        "Le train de 8 h 42 pour Besançon partira exceptionnellement de la voie G.",
        "Grâce à vos dons, le refuge a pu accueillir quarante-sept animaux cet hiver.",
    ),
    "en": (
        "The harbour authority will close the eastern quay for repairs until further notice.",
        "Please keep this receipt: it is your only proof of purchase and warranty.",
        "Invoice 77-1203 is payable within thirty days of the date shown above.",
        "No one under the age of twelve may use the pool without an adult.",
        "Quarterly revenue grew by 8.4% to $12.7 million, driven by overseas demand.",
        "Turn left at the old mill, cross the bridge and follow the towpath north.",
        "If the light blinks twice, unplug the device and wait for ten seconds.",
        "The recipe serves six people and takes about forty minutes to prepare.",
        "Volcanic ash had buried the village so quickly that bread lay in the ovens.",
        "Tickets bought online can be exchanged up to one hour before departure.",
    ),
}
SIGNS = {
    "fr": ("SORTIE", "BOULANGERIE", "Place du Marché", "ENTRÉE INTERDITE", "HÔTEL DE VILLE"),
    "en": ("NO PARKING", "FIRE DOOR KEEP SHUT", "Victoria Street", "Fresh coffee", "FOR SALE"),
}
GOODS = {
    "fr": ("Baguette", "Lait entier", "Café moulu", "Œufs bio", "Crème fraîche", "Pâtes", "Huile d'olive", "Éponges"),
    "en": ("Bread", "Whole milk", "Coffee beans", "Apples", "Green tea", "Grated cheese", "Olive oil", "Soap"),
}
