"""Which registered teacher or family a model is, by its name in a library, and which it is like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vitkd_bench.diagnose.library import Built
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Architecture, Components, Teacher

TUNED = "ft"  # what timm's tags call training that follows on the release
IN_A_FORM = {"activation", "norm_eps", "mlp"}  # in which members of one family may differ
SIZE_WORDS = {"tiny", "small", "medium", "base", "large", "huge", "giant", "gigantic", "vit", "xlarge"}


@dataclass(frozen=True, slots=True)
class Likeness:
    """A family of the registry that a model is like: by words of its `name`, by its `parts`, or both.

    The words are those of the family's own name, or of a source's whole tag and network.
    """

    family: str
    name: tuple[str, ...] = ()
    parts: bool = False

    @property
    def reason(self) -> str:
        """Say it as people read it."""
        named = f"its name has {', '.join(self.name)}" if self.name else ""
        return "; ".join(filter(None, (named, "it has the same components" if self.parts else "")))


def registered(built: Built) -> Teacher | None:
    """Find the teacher that a name of timm or open_clip is the source of; None if several families share it.

    A name without a tag is the teacher's whose tag timm takes by default; open_clip's tags are those that
    `text_encoder` names.
    """
    if built.backend == "transformers":
        return None
    untagged = not re.search(r"[./]", built.asked)
    if untagged and len(users(built)) > 1:
        return None
    found = [t for t in TEACHERS for s in t.sources if s.backend == built.backend and s.model == built.model]
    tagged = f"open_clip:{built.asked}"
    if built.backend == "open_clip" and not untagged:
        found = [teacher for teacher in found if teacher.text_encoder == tagged]
    return found[0] if len({teacher.name for teacher in found}) == 1 else None


def users(built: Built) -> tuple[str, ...]:
    """List the families whose sources build this architecture or class, in order."""
    backends = {"timm", "official"} if built.backend == "timm" else {built.backend}
    model = built.model.partition(".")[0]
    sources = [(t.family, s) for t in TEACHERS for s in t.sources if s.backend in backends]
    return tuple(sorted({family for family, s in sources if s.model.partition(".")[0] == model}))


def families_of(built: Built, architecture: Architecture | None) -> tuple[str, ...]:
    """List the families that a model may be of: one, several that share its name, or none.

    A family is said where its own name, or the tag of its release, names the training, and the parts agree.
    An untagged name and a class belong to all families that they are the source of, or that any of its tags
    names; one whose tags include a foreign training is of no single family. Classes of transformers serve
    later versions of a family too (BEiT and BEiT v2): a version with the same parts is as likely. Parts alone
    are no family: five families of the registry are plain ViTs.
    """
    sharing = users(built)
    if built.backend == "transformers":
        return _of_class(built, architecture) or tuple(f for f in sharing if _agrees(f, architecture))
    by_name = [_named(name, architecture) for name in built.names]
    named = set().union(*by_name)
    if len(built.names) > 1 and len(sharing) > 1:
        named.update(sharing)
    return () if len(named) == 1 and not all(by_name) else tuple(sorted(named))


def _named(name: str, architecture: Architecture | None) -> tuple[str, ...]:
    """List the families of which a name says most, of those that the parts and the training agree with."""
    said = {f: words for f, words in _telling(name).items() if _agrees(f, architecture)}
    released = {f: words for f, words in said.items() if not _tuned_by_others(f, name)}
    most = max(map(len, released.values()), default=0)
    return tuple(sorted(family for family, words in released.items() if len(words) == most))


def _telling(name: str) -> dict[str, set[str]]:
    """Find the words of a name that name a family: all of its own name, or network and tag of a source."""
    own, tag = _words(name), name.partition(".")[2]
    found: dict[str, set[str]] = {}
    for teacher in TEACHERS:
        sources = [s.model for s in teacher.sources if s.backend == "timm" and "." in s.model]
        whole = [_words(model) for model in sources if model.partition(".")[2] == tag]
        for words in (_words(teacher.family), *whole):
            if words and words <= own:
                found.setdefault(teacher.family, set()).update(words)
    return found


def _tuned_by_others(family: str, name: str) -> bool:
    """Tell weights that were trained on from a release, but for networks that are called after the family."""
    sources = {word for t in TEACHERS if t.family == family for s in t.sources for word in _words(s.model)}
    return TUNED in _words(name) - sources and not name.startswith(family)


def _agrees(family: str, architecture: Architecture | None) -> bool:
    """Say whether the parts are those of one of the family's teachers; a giant may gate its MLP."""
    if architecture is None:
        return False
    kinds = _kinds(architecture)
    return any(_kinds(teacher.architecture) == kinds for teacher in TEACHERS if teacher.family == family)


def _kinds(architecture: Architecture) -> tuple[object, ...]:
    """Parts without the forms that they have; whether a position is a fixed one, weights alone can tell."""
    components = architecture.components
    # DINOv3's release holds zeros as biases of query and value, which most builds of timm leave out
    in_a_form = IN_A_FORM | ({"qkv_bias"} if components.rope == "dinov3" else set())
    parts = [part for part in _parts(components) if part[0] not in in_a_form and part[1] != "fixed"]
    return (architecture.class_token, bool(architecture.registers), *parts)


def _of_class(built: Built, architecture: Architecture | None) -> tuple[str, ...]:
    """List the families that the name of a class names, with other versions of the same parts.

    Where a configuration says that it was loaded from is no name: weights tuned from a release keep it.
    """
    stems = {_stem(family) for name in built.names for family in _named(name, architecture)}
    families = {teacher.family for teacher in TEACHERS}
    return tuple(sorted(f for f in families if _stem(f) in stems and _agrees(f, architecture)))


def _stem(family: str) -> str:
    return re.sub(r"v?\d+$", "", family)


def likenesses(words: str, architecture: Architecture | None) -> tuple[Likeness, ...]:
    """Find the registered families that a model is like, the likeliest first.

    Nothing is listed by hand: words count that make up a family's own name or the tag of its release, not
    those of data sets or pooling that other trainings share. Parts are alike where components and kind of
    prefix are the same. Neither makes a model one of the family (`families_of`).
    """
    telling = _telling(words)
    alike = {t.family for t in TEACHERS if architecture and _same_parts(t.architecture, architecture)}
    found = [
        Likeness(family, tuple(sorted(telling.get(family, ()))), family in alike)
        for family in sorted(alike.union(telling))
    ]
    return tuple(sorted(found, key=lambda like: (-len(like.name), not like.parts)))


def _words(text: str) -> set[str]:
    """Split a name at punctuation; what says a size is no word."""
    words = {word for word in re.split(r"[^a-z0-9]+", text.lower()) if len(word) > 1}
    return {word for word in words - SIZE_WORDS if not re.fullmatch(r"(patch|b|l|s|h)?[0-9]+", word)}


def _same_parts(one: Architecture, other: Architecture) -> bool:
    return (one.class_token, bool(one.registers), _parts(one.components)) == (
        other.class_token,
        bool(other.registers),
        _parts(other.components),
    )


def _parts(components: Components) -> tuple[tuple[str, object], ...]:
    """Components with their values; of layer scale only that it is there."""
    return tuple((n, n if n == "layer_scale" else getattr(components, n)) for n in components.present())
