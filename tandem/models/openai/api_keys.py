"""Selecting an endpoint's API key: its own, or one that the user chose for it; never another service's."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from tandem.ledger import Role

_OWN = {
    "openai.com": "OPENAI_API_KEY",
    "anthropic.com": "ANTHROPIC_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
    "deepseek.com": "DEEPSEEK_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
}
_USUAL = "OPENAI_API_KEY"
VARIABLES = (*_OWN.values(), "TANDEM_API_KEY", "TANDEM_MENTOR_API_KEY", "TANDEM_INTERN_API_KEY")


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The environment variables that may hold the key for `host`; the first one that is set counts.

    `named` alone, where the caller names one. The services in `_OWN` have a variable of their own. Any other host gets
    TANDEM_MENTOR_API_KEY or TANDEM_INTERN_API_KEY by `role`, else TANDEM_API_KEY; and OPENAI_API_KEY only if it is
    this machine or the host of OPENAI_BASE_URL, to which every OpenAI client sends that key.
    """

    host: str
    role: Role | None = None
    named: str | None = None

    @property
    def own(self) -> str | None:
        """The variable of a service that cannot be used without a key; None for any other host."""
        return next((key for name, key in _OWN.items() if f".{self.host}".endswith(f".{name}")), None)

    @property
    def names(self) -> tuple[str, ...]:
        if self.named or self.own:
            return (self.named or self.own or "",)
        mine = (f"TANDEM_{self.role.upper()}_API_KEY",) if self.role else ()
        return (*mine, "TANDEM_API_KEY", *((_USUAL,) if self._usual else ()))

    @property
    def key(self) -> str:
        return next((key for name in self.names if (key := os.environ.get(name, "").strip())), "")

    @property
    def advice(self) -> str:
        advice = f"set {self.names[0]}"
        if _USUAL in self.names[1:]:
            advice += f" or {_USUAL}"
        elif _USUAL not in self.names and not self.own and not self.named and os.environ.get(_USUAL):
            advice += f" ({_USUAL} goes to openai.com, this machine and the host of OPENAI_BASE_URL only)"
        return advice

    @property
    def lists_models(self) -> bool:
        """Whether the host lists its models for the key that its chats take; Anthropic's list wants other headers."""
        return not f".{self.host}".endswith(".anthropic.com")

    def redact(self, text: str) -> str:
        for name in {*self.names, *_OWN.values()}:
            if key := os.environ.get(name, "").strip():
                text = text.replace(key, "[key]")
        return text

    @property
    def _usual(self) -> bool:
        meant = urlsplit(os.environ.get("OPENAI_BASE_URL", "").strip()).hostname
        return self.host == meant or _this_machine(self.host)


def _this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
