"""Which registered teacher or family a model is, by its name in a library, and which it is like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vitkd_bench.diagnose.library import Built
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Architecture, Components, Teacher

MOST_FAMILIES = 3  # that a word may be of and still tell something
CLEAR = 0.5  # weight of the words from which on they name a family
SIZE_WORDS = {"tiny", "small", "medium", "base", "large", "huge", "giant", "gigantic", "vit", "xlarge"}


@dataclass(frozen=True, slots=True)
class Likeness:
    """A family of the registry that a model is like: by words of its `name`, by its `parts`, or both.

    `weight` counts its words, one that speaks for n families as 1 / n.
    """

    family: str
    name: tuple[str, ...] = ()
    parts: bool = False
    weight: float = 0.0

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
    """List the families that a model may be of by its name: one, several that share the name, or none.

    An untagged name and a class belong to all families that they are the source of, or that any of its tags
    names. Else words of the name decide. Classes of transformers serve later versions of a family too (BEiT
    and BEiT v2): there the parts have to fit, and a version with the same parts is as likely. Parts alone are
    no family: five families of the registry are plain ViTs.
    """
    sharing = users(built)
    if built.backend == "transformers":
        return sharing or _of_class(built, architecture)
    named = {family for name in built.names for family in _named(likenesses(name, architecture), name)}
    untagged = len(built.names) > 1
    return tuple(sorted(named.union(sharing) if untagged and len(sharing) > 1 else named))


def _named(alike: tuple[Likeness, ...], name: str) -> tuple[str, ...]:
    """List the families that words say most of; of several, those whose own name is in it whole."""
    said = [like for like in alike if like.weight >= CLEAR]
    best = [like.family for like in said if like.weight == said[0].weight]
    whole = [family for family in best if _words(family) <= _words(name)]
    return tuple(whole or best)


def _of_class(built: Built, architecture: Architecture | None) -> tuple[str, ...]:
    alike = likenesses(built.words, architecture)
    best = _named(alike, built.words)
    fits = {like.family for like in alike if like.parts}
    stems = {_stem(family) for family in best}
    return tuple(sorted(f for f in fits if _stem(f) in stems)) if fits.intersection(best) else ()


def _stem(family: str) -> str:
    return re.sub(r"v?\d+$", "", family)


def likenesses(words: str, architecture: Architecture | None) -> tuple[Likeness, ...]:
    """Find the registered families that a model is like, the likeliest first.

    A word of a name speaks for the families whose own names and sources have it, the more the fewer they are,
    so that nothing is listed by hand. Parts are alike where components and kind of prefix are the same.
    """
    own, families = _words(words), _families()
    alike = {t.family for t in TEACHERS if architecture and _same_parts(t.architecture, architecture)}
    found = []
    for family in sorted(families):
        shared = {w: sum(w in other for other in families.values()) for w in own & families[family]}
        telling = tuple(sorted(word for word, count in shared.items() if count <= MOST_FAMILIES))
        if telling or family in alike:
            weight = sum(1 / shared[word] for word in telling)
            found.append(Likeness(family, telling, family in alike, round(weight, 3)))
    return tuple(sorted(found, key=lambda like: (-like.weight, not like.parts)))


def _families() -> dict[str, set[str]]:
    """Words of each family: of its name, and of its sources' models where these are no names of classes."""
    families: dict[str, set[str]] = {}
    for teacher in TEACHERS:
        names = [source.model for source in teacher.sources if source.backend != "transformers"]
        families.setdefault(teacher.family, set()).update(*map(_words, (teacher.family, *names)))
    return families


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
