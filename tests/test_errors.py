import pytest

from mil.errors import unknown_name

RECIPES = ["abmil", "abmil_plain", "clam_mb", "clam_sb", "lama"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("abmli", "did you mean 'abmil'? "),
        # Capitals do not count; of a name and longer ones it is the name itself.
        ("ABMIL", "did you mean 'abmil'? "),
        ("CLAM_SB", "did you mean 'clam_sb'? "),
        # Not the name that only looks similar.
        ("clam", "did you mean 'clam_mb' or 'clam_sb'? "),
        ("CLAM", "did you mean 'clam_mb' or 'clam_sb'? "),
        ("c", ""),
        ("configs/heads/abmil.csv", "did you mean 'abmil'? "),
        ("nothing like it", ""),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name, hint):
    message = unknown_name("head recipe", name, RECIPES)
    assert message == (
        f"no head recipe named {name!r}; {hint}there are: {', '.join(sorted(RECIPES))}"
    )
