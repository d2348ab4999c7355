"""medge's own texts."""

from medge.quant.texts.prompts import medical_texts, mixed_texts


def test_texts_for_measuring_are_others() -> None:
    used, kept = [*medical_texts(), *mixed_texts()], medical_texts(held_back=True)
    assert min(len(used), len(kept)) >= 10
    sentences = [{sentence.strip(". \n") for text in texts for sentence in text.split(". ")} for texts in (used, kept)]
    assert all(sentences)
    assert not sentences[0] & sentences[1]
