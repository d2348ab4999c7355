"""The words of a printed report, by language."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What stands on a page beside the report itself."""

    report: str
    patient: str
    number: str
    born: str
    study: str
    scores: str
    label: str
    probability: str
    decision: str
    signed: str
    draft: str
    present: str
    absent: str
    uncertain: str
    unlike: str

    def says(self, decision: str) -> str:
        """A decision in this language; "" for none."""
        return {"present": self.present, "absent": self.absent, "uncertain": self.uncertain, "unlike": self.unlike}.get(
            decision, ""
        )


_ALL = {
    "en": Words(
        "Report", "Patient", "Number", "Born", "Study", "The model's scores", "Label", "Probability", "Decision", "Signed by",
        "Draft, not signed", "present", "absent", "uncertain", "unlike anything known",
    ),
    "fr": Words(
        "Compte rendu", "Patient", "Numéro", "Né(e) le", "Examen", "Scores du modèle", "Étiquette", "Probabilité", "Décision",
        "Signé par", "Brouillon, non signé", "présent", "absent", "incertain", "ne ressemble à rien de connu",
    ),
    "es": Words(
        "Informe", "Paciente", "Número", "Nacimiento", "Estudio", "Puntuaciones del modelo", "Etiqueta", "Probabilidad",
        "Decisión", "Firmado por", "Borrador, sin firmar", "presente", "ausente", "incierto", "no se parece a nada conocido",
    ),
    "pt": Words(
        "Relatório", "Paciente", "Número", "Nascimento", "Exame", "Pontuações do modelo", "Rótulo", "Probabilidade", "Decisão",
        "Assinado por", "Rascunho, não assinado", "presente", "ausente", "incerto", "diferente de tudo o que se conhece",
    ),
    "sw": Words(
        "Ripoti", "Mgonjwa", "Namba", "Alizaliwa", "Uchunguzi", "Alama za modeli", "Lebo", "Uwezekano", "Uamuzi",
        "Imesainiwa na", "Rasimu, haijasainiwa", "ipo", "haipo", "haijulikani", "haifanani na chochote kinachojulikana",
    ),
}  # fmt: skip
LANGUAGES = {
    "en": "English",
    "fr": "French",
    "es": "Spanish",
    "pt": "Portuguese",
    "sw": "Swahili",
}  # as codes mean them


def words_in(language: str) -> Words:
    """The words in a language; in English where it is none of the five."""
    return _ALL.get(language, _ALL["en"])
