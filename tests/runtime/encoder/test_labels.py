"""Label files and label banks."""

from pathlib import Path

import numpy as np
import pytest

from medge.runtime.encoder.labels import LabelBank, read_labels
from medge.runtime.errors import BundleError, LabelError


def test_both_forms_of_a_label_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("pneumonia\n\n normal \n")
    (tmp_path / "a.json").write_text('{"pneumonia": ["lung infection", "pneumonia"], "normal": "clear lungs"}')
    assert list(read_labels(tmp_path / "a.txt")) == ["pneumonia", "normal"]
    assert all(len(prompts) == 3 for prompts in read_labels(tmp_path / "a.txt").values())
    assert read_labels(tmp_path / "a.json") == {"pneumonia": ["lung infection", "pneumonia"], "normal": ["clear lungs"]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("a.txt", "\n \n", "the label list is empty"), ("a.json", "[1]", "it is no object"), ("a.json", "{", "not JSON"),
     ("a.json", '{"a": [1]}', "must be non-empty texts"), ("a.txt", "a\na\n", "is listed twice"),
     ("a.json", '{"\\u001b[31ma": []}', "holds line breaks or control characters"), ("a.txt", "a\0b", "control characters")],
)  # fmt: skip
def test_bad_label_files(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError, match=said):
        read_labels(tmp_path / name)


def test_a_bank_is_the_normalised_mean_and_survives_a_file(tmp_path: Path) -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.0, -2.0]}
    bank = LabelBank.build(
        {"x": ["a", "b"], "y": ["c"]}, lambda texts: np.array([vectors[t] for t in texts], np.float32)
    )
    np.testing.assert_allclose(bank.embeddings, [[2**-0.5, 2**-0.5], [0, -1]], atol=1e-7)  # the last digit of fp32
    bank.save(tmp_path / "bank")
    again = LabelBank.load(tmp_path / "bank")
    assert again.prompts == bank.prompts
    np.testing.assert_array_equal(again.embeddings, bank.embeddings)
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(BundleError, match="not a label bank"):
        LabelBank.load(tmp_path / "junk")
