"""Who calls, and whether they may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.core.errors import PermissionDeniedError
from histill.core.projects import DEFAULT
from histill.rpc.roles import RANKS, ROLES

if TYPE_CHECKING:
    from histill.core.service_settings import Role


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        id: Of the key, or ``oidc:`` and the subject of a token or its digest; for logs.
        project: Whose models, datasets and jobs are seen, and whose quotas count.
        role: What they may do.
        root: May make keys for every project: an admin of the project ``default`` whose key
            stands in the settings.
    """

    id: str
    project: str = DEFAULT
    role: Role = "viewer"
    root: bool = False


# Of probes, and outside of calls: nobody, who may do next to nothing.
ANONYMOUS = Caller("anonymous")
# Everybody, where the settings say that nobody is asked for credentials.
EVERYBODY = Caller("anonymous", role="admin", root=True)


def needed_role(method: str) -> Role:
    """The role that a method asks for.

    Args:
        method: Full method, ``/package.Service/Method``.

    Raises:
        PermissionDeniedError: It is not in the table, so nobody may call it.
    """
    if method not in ROLES:
        raise PermissionDeniedError(f"{method} has no role and may not be called")
    return ROLES[method]


def authorize(method: str, caller: Caller) -> None:
    """Returns when the caller may call the method.

    Raises:
        PermissionDeniedError: The role is too low, or the method is not in the table.
    """
    role = needed_role(method)
    if RANKS[caller.role] < RANKS[role]:
        raise PermissionDeniedError(f"{method} needs the role {role}; yours is {caller.role}")
