"""The images that come with pydicom."""

from medge.export.source.samples import builtin_samples


def test_builtin_samples_are_different_pictures() -> None:
    samples = builtin_samples()
    assert len(samples) >= 15
    assert len({image.tobytes() for image in samples.images}) == len(samples)
