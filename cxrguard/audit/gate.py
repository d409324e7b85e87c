"""The release gate: may the model that an audit judged leave the house?"""

from __future__ import annotations

from pathlib import Path

from cxrguard.audit.record import read_audit, verdict
from cxrguard.errors import CxrguardError


def gate(audit_path: str | Path) -> tuple[bool, list[str]]:
    """Judge a recorded audit anew, by the limits recorded in it.

    The model passes only if the recorded verdict *and* the figures say so: a verdict edited by hand, or written by a
    version that judged more mildly, opens nothing.

    Returns:
        Whether the model may be released, and the reasons.

    Raises:
        CxrguardError: if the audit cannot be read or breaks the contract.

    """
    audit = read_audit(audit_path)
    recorded = audit["verdict"]
    try:
        limits = verdict(audit)["limits"]
        # A recorded limit may be stricter than the default, never milder.
        limits |= {name: min(value, limits[name]) for name, value in (recorded.get("limits") or {}).items()}
        fresh = verdict(audit, **limits)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise CxrguardError(f"A figure in {Path(audit_path).name} has an unexpected form ({type(error).__name__}).") from error
    if recorded["pass"] and not fresh["pass"]:
        return False, [*fresh["reasons"], "The recorded verdict is a pass, but the figures do not bear it out."]
    if not recorded["pass"]:
        return False, [str(reason) for reason in recorded["reasons"]] or ["The recorded verdict is a refusal."]
    return True, fresh["reasons"]
