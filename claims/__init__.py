"""The theory, claim by claim. A claim is one file here and one line in CLAIMS: `claims/base.py`."""

from claims.base import Claim

# One line a claim.
_WRITTEN: tuple[Claim, ...] = ()
CLAIMS: dict[int, Claim] = {claim.number: claim for claim in _WRITTEN}
