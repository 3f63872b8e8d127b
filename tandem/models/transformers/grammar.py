"""Decoding by a schema: which tokens may come next in a JSON answer, by xgrammar where that is installed."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from tandem.models.transformers.load import Loaded
from tandem.thinking import CLOSES

if TYPE_CHECKING:
    import torch

    from tandem.response_format import ResponseFormat

_log = logging.getLogger(__name__)


class JsonGrammar:
    """One answer's way through its grammar. A model that thinks aloud is free until its thought closes."""

    def __init__(self, matcher: Any, behind: int | None) -> None:
        """`behind` is the token that closes the thought; None: the answer begins at once."""
        self._matcher, self._behind = matcher, behind
        self._mask: torch.Tensor | None = None

    def bend(self, logits: torch.Tensor) -> None:
        """Make the tokens impossible that may not come next; `logits` (vocabulary) is changed."""
        import xgrammar

        if self._behind is not None or self._matcher.is_terminated():
            return
        if self._mask is None:
            self._mask = xgrammar.allocate_token_bitmask(1, logits.shape[-1])
        self._matcher.fill_next_token_bitmask(self._mask)
        xgrammar.apply_token_bitmask_inplace(logits.unsqueeze(0), self._mask.to(logits.device))

    def take(self, token: int) -> None:
        """Go on by the token that was drawn."""
        if self._behind is None:
            if not self._matcher.is_terminated():
                self._matcher.accept_token(token)
        elif token == self._behind:
            self._behind = None


class Grammars:
    """The grammars of one model's tokens, compiled at their first use, which takes seconds. Any thread may ask."""

    def __init__(self) -> None:
        self._compiler: Any = None
        self._guard = threading.Lock()

    def of(self, loaded: Loaded, form: ResponseFormat) -> JsonGrammar | None:
        """Return a fresh grammar; None without xgrammar, and for a schema that it does not know how to follow."""
        try:
            import xgrammar
        except ImportError:
            return None
        behind = None
        if loaded.spec.thinks:
            behind = loaded.tokenizer.convert_tokens_to_ids(CLOSES)
            if behind is None or behind == loaded.tokenizer.unk_token_id:
                return None
        try:
            with self._guard:
                self._compiler = self._compiler or xgrammar.GrammarCompiler(
                    xgrammar.TokenizerInfo.from_huggingface(
                        loaded.tokenizer,
                        vocab_size=loaded.model.get_output_embeddings().out_features,
                        stop_token_ids=sorted(loaded.ends),
                    )
                )
                # Without free white space: small models write it for ever.
                if form.schema:
                    compiled = self._compiler.compile_json_schema(form.schema, any_whitespace=False)
                else:
                    compiled = self._compiler.compile_json_schema(
                        '{"type": "object"}', any_whitespace=False, strict_mode=False
                    )
        except Exception as error:  # the library's own, by its version
            _log.info("%s writes this JSON unguided: %s", loaded.spec.name, error)
            return None
        return JsonGrammar(xgrammar.GrammarMatcher(compiled), behind)
