"""Chat templates: how turns of a talk become text, as jinja that tokenizers of transformers hold.

The formats are those that their models were trained with: chatml (OpenAI 2023), alpaca (Taori et al. 2023),
llama3 (Meta 2024), mistral (Mistral AI 2023, first version), exaone (LG AI Research 2024).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conjoin.errors import FileError, listed, nearest
from conjoin.transfer.merge.parts import Recipe

FILE, CONFIG, AUTO = "chat_template.jinja", "tokenizer_config.json", "auto"
TEMPLATES = {
    "chatml": """\
{%- for message in messages -%}
{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
""",
    "alpaca": """\
{%- set titles = {'user': '### Instruction:\\n', 'user_context': '### Input:\\n', \
'assistant': '### Response:\\n'} -%}
{%- for message in messages -%}
{%- if message.role == 'system' or message.role in titles -%}
{{- titles.get(message.role, '') ~ message.content | trim -}}
{%- if not loop.last or add_generation_prompt -%}
{{- '\\n\\n' -}}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- titles.assistant -}}
{%- endif -%}
""",
    "llama3": """\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' -}}
{{- message.content | trim ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
""",
    "mistral": """\
{{- bos_token -}}
{%- set talk = namespace(system='', turn='user') -%}
{%- for message in messages -%}
{%- if message.role == 'system' and loop.first -%}
{%- set talk.system = message.content ~ '\\n\\n' -%}
{%- elif message.role != talk.turn -%}
{{- raise_exception('after a system message, user and assistant must take turns, the user first') -}}
{%- elif message.role == 'user' -%}
{{- ' [INST] ' ~ talk.system ~ message.content ~ ' [/INST]' -}}
{%- set talk.system = '' -%}
{%- set talk.turn = 'assistant' -%}
{%- else -%}
{{- ' ' ~ message.content ~ eos_token -}}
{%- set talk.turn = 'user' -%}
{%- endif -%}
{%- endfor -%}
""",
    "exaone": """\
{%- if messages[0].role != 'system' -%}
{{- '[|system|][|endofturn|]\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '[|' ~ message.role ~ '|]' ~ message.content -}}
{{- '\\n' if message.role == 'user' else '[|endofturn|]\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '[|assistant|]' -}}
{%- endif -%}
""",
}
"""Templates by name. Given: messages (role, content), add_generation_prompt, bos_token, eos_token."""


def chat_template(recipe: Recipe, folders: Sequence[Path]) -> tuple[str | None, tuple[str, ...]]:
    """The template that a recipe wants, and notes; None where it wants none. folders: of the models.

    auto: the one that most models have, the first of these where several have as many; a name of `TEMPLATES`;
    or jinja itself. Raises InputError with the line.
    """
    wanted = recipe.chat_template
    if wanted is None:
        return None, ()
    line = recipe.lines.get("chat_template", 0)
    if wanted == AUTO:
        found = Counter(t for t in map(template_in, folders) if t)
        if not found:
            return None, ("no model has a chat template; the answer has none",)
        return found.most_common(1)[0][0], ()
    if wanted in TEMPLATES:
        return TEMPLATES[wanted], ()
    if "{" not in wanted:
        recipe.refuse(
            f"no chat template {wanted!r:.80}{nearest(wanted, (AUTO, *TEMPLATES))}; there are "
            f"{listed((AUTO, *TEMPLATES))}, or give jinja",
            line,
        )
    return wanted, ()


def template_in(folder: Path) -> str | None:
    """The chat template of a model's tokenizer, the default one of several. Raises FileError."""
    try:
        if (folder / FILE).is_file():
            return (folder / FILE).read_text(encoding="utf-8").strip() or None
        if not (folder / CONFIG).is_file():
            return None
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"the tokenizer in {folder} cannot be read: {error}") from error
    found = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(found, list):
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default")
    if isinstance(found, dict):
        found = found.get("default")
    return found.strip() or None if isinstance(found, str) else None


def with_template(files: dict[str, bytes], template: str) -> dict[str, bytes]:
    """Files of a tokenizer with a chat template: in a file of its own, which transformers 5 reads first, and
    in the config, where older ones look for it.
    """
    out = {**files, FILE: template.encode()}
    if CONFIG in out:
        config = json.loads(out[CONFIG])
        config["chat_template"] = template
        out[CONFIG] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    return out
