from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.study.claims import CLAIMS


def test_claims_have_unique_ids_and_recipes_of_the_catalogue():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    named = {
        getattr(measure, field)
        for claim in CLAIMS
        for measure in (*claim.measures, *claim.context)
        for field in ("recipe", "against")
        if hasattr(measure, field)
    }
    assert named <= set(CATALOGUE)
