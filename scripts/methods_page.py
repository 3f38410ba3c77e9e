"""Writes docs/methods.md: every method and control on the shelf, from the registry, and how to use them.

python scripts/methods_page.py            writes the page
python scripts/methods_page.py --check    says whether it is stale, and exits 1 if so
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

from made_page import write_or_check

from vitkd_bench.contracts import CellFacts
from vitkd_bench.pipeline import resolve_dataset
from vitkd_bench.plan import MAKERS
from vitkd_bench.registry import (
    CONTROLS,
    DATASETS,
    KINDS,
    METHODS,
    RECIPES,
    TEACHERS,
    ControlEntry,
    MethodEntry,
)
from vitkd_bench.report.words import settings_text
from vitkd_bench.spec import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
REFRESH = "python scripts/methods_page.py"
TEACHER = "micro/deit"  # has a head and no part that a plain ViT lacks, so that no method misses anything

INTRODUCTION = f"""# Methods

The tables of this page are made from the registry by `{REFRESH}`, which holds the text as well: change
`vitkd_bench/methods/` or the script, not this page. `vitkd methods show NAME` describes each setting.

*Reads* is what a step computes of the teacher at the default settings; nothing else of it is computed. *Made
first* names the run that makes the teacher of a method: a preparation with a record of its own. *Needs* is
what `plan` asks of a cell before anything runs (see [Needs](#needs)). *Defaults* are the published settings
where a paper gives them for this form of the loss. *Budget* is what a fair comparison tries on val. `w/o
teacher` says that none is read, `teacher at test` that the student is no network of its own.
"""

TITLES = {
    "baseline": "Baseline",
    "attention": "Attention",
    "weights": "Weights",
    "logit": "Logits",
    "feature": "Features",
    "relation": "Relations of samples or tokens",
    "online": "Peers",
    "teacher": "A teacher that is changed first",
}
RUN_FOR_OTHERS = "## Run for a teacher, and named in no suite\n\n"
COLUMNS = ("name", "title", "reads", "needs", "defaults", "budget", "paper")
CONTROL_COLUMNS = (
    "control",
    "what the student gets",
    "claim that falls if it does as well",
    "acts on",
    "settings",
)
CONTROLS_TEXT = """## Controls

A control takes from a method the one thing that a claim of it rests on, and changes nothing else of the run:
`{name: attn_copy, control: shuffled_maps}`. It stands in the same grid, in a table of its own beside its
method, and counts for no family's verdict. One that says nothing of a method is refused for it.
"""

USE = """## Needs

`plan` refuses a cell that lacks what a method needs, in one sentence, which the report prints. `logits`: the
teacher has a head with an index of its own for every class of the data set. `width`, `depth`, `heads`,
`grid`: equal on both sides (`grid` counts patches a side; tokens that one side lacks are left out, see
[students](students.md)). `batch`: the loss relates samples, so that batches of one and gradient accumulation
are refused. `plain_labels`: one class for each image, no mixup or cutmix. `one_view`: no image twice in a
batch. `memory`: state that grows with the training set. `parameters`: projectors and the like, in the
optimiser from the first step, kept apart from the student and absent from what is exported. Settings can need
more: `kd` above 0 needs logits.

## The total loss

- A loss is a sum of named parts, `labels` and then the method's own, each a mean over the batch.
- `labels` is the recipe's cross-entropy, label smoothing included. Where a setting is called `alpha` it is a
  share: (1 - alpha) labels + alpha x own (but of `dkd` the weight of one of its two terms). Where it is
  called `weight` it multiplies the own part, and labels weigh 1 or what a setting `labels` says.
- Methods on features and relations have a setting `kd` besides, off by default (`tinybert` apart): that share
  of the task's loss is `kd` at temperature 1. They are worth running with and without. `distilbert` has
  weights of its own for `labels` and `logits` instead.
- `kd` and its kin at a temperature T carry T^2, so that their gradient keeps its size as T grows.
- Each method's docstring (`vitkd_bench/methods/NAME.py`) says the reduction that its weight is meant for.
- A method's own loss is a public function of tensors, `NAME_loss` in its file. `finetune`, `finetune_sam`,
  `weight_selection`, `keep_attention` and `keep_mlp` have none: what they pass on are weights, at the start,
  and they train on the labels' loss of `none` (`transfer` of the last two adds that of `attn_copy` or
  `attn_distill`). `attn_copy` and `qkv_copy` put what they copy into the student and train on labels too.
- Weights are those of the papers, which tuned them on CNNs and on other data as often as not. `sp`, `pkt` and
  `crd` come with RepDistiller's for CNNs on CIFAR-100 (240 epochs, batches of 64). On digits (one seed, 5
  epochs) all three were below the student without a teacher at these weights, and above or level with it at a
  tenth of them. Search the weight, do not compare at the default.
- The teacher is in eval mode, sees the student's pixels in its own normalisation, and gets no gradient.

## Fair weights

Learning rate and weight decay are tuned once, on `none`, and frozen. What is a method's own is chosen on val,
never on test, and every method may spend the same number of trials:

```yaml
methods:
  - none
  - {name: attn_distill, weight: {search: [0.1, 0.3, 1, 3, 10, 30]}, layers: {search: [all, "first:3"]}}
  - {name: kd, alpha: {search: [0.1, 0.3, 0.5, 0.7, 0.9, 1]}, temperature: {search: [1, 2, 4]}}
seeds: [0, 1, 2]
search: {seeds: [100], budget: 9} # the default; no seed of the suite's own
```

- Settings are tried in the order in which they are written, each with those before it at the chosen value and
  those after it at their default. Highest top-1 on val wins, mean over the search's seeds; of equal ones the
  lower negative log-likelihood. Trials are measured on val alone.
- Each cell searches for itself: trials x seeds of the search, for each pair of teacher and student. `vitkd
  plan` shows what that comes to, and a suite whose method would exceed the budget is refused when it is read.
- The report shows every value with its accuracy, the chosen one, and the trials spent; a method that searched
  for nothing shows 0. `sweep` in place of `search` makes variants, each a row of its own.
- The **gradient ratio** is a check: norm of the gradient of a method's own part on the student over that of
  the task (labels, and kd where it stands beside), over the first hundredth of the steps, 20 at most. Between
  0.05 and 1 the weight is of the labels' scale; outside, the row says so. It proves nothing: `kd` at alpha
  0.9 is far outside by design. A loss of one part (`funmatch`, `sparse_kd`, the methods on weights, copying)
  has no ratio, and none is measured under `compile`: the text under the board says so.

## Teachers without a head

DINO, MAE and their kind have no logits. For methods that read them:

- `{name: dinov2/s14, head: probe}` fits a linear probe to the frozen features of the cell's training images
  first, its penalty chosen on val. It is a preparation; its accuracy stands in a record of its own.
- `{name: clip/b16, head: text, backend: open_clip}` makes a head of the class names and templates of the data
  set, for teachers with a text tower.
- Otherwise the cell is refused. A head is never drawn at random, except by the control `random_head`.

## Teachers that are made first, and none at all

`ban` and `tfkd_self` learn from an earlier self: a run of `none` with the same data, recipe and seed. `takd`
teaches an assistant between the two sizes first, by `kd`; `remem` fine-tunes the teacher first, `sparse_kd`
stores its outputs. These runs are planned, trained once and cached like any preparation; if one fails, the
runs that need it fail by its name. They are no part of the budget of trials, and `plan` lists them.
`label_smoothing` and `tfkd_reg` read no teacher: what labels alone can do belongs beside any gain of a logit
method.

## What is experimental

"""
OWN = '''
`remem`, and `finetune_sam` with `gamma` below 1, are our reading of a paper of which little was at hand:
sharpness-aware fine-tuning of the teacher with an MLP branch scaled by `gamma` in the upper blocks, held
while it is fine-tuned and while it teaches. Which blocks, by how much, which radius and which estimator of
mutual information the paper uses is not known to us; ours is a bound (InfoNCE) between an image and its
middle, on the teacher's logits, and stands in the student's record with its ceiling.

## A method of your own

One file, named in the suite (`extensions: [cosine.py]`) or registered by a package through the entry point
`vitkd_bench.methods`. This is a whole one:

```python title="cosine.py"
"""Cosine: the student's pooled features point where the teacher's do."""

import torch.nn.functional as F
from pydantic import Field

from vitkd_bench import none_loss
from vitkd_bench.contracts import Method, taps
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


@METHODS.register("cosine", title="Cosine", kind="feature", paper="our own", needs=("width",), budget="0")
class Cosine(Method):
    """Cross-entropy with the labels + weight x one minus the cosine of pooled features."""

    class Config(Settings):
        weight: float = Field(default=1.0, ge=0, description="of the cosine, against labels of weight 1")

    def teacher_taps(self):
        return frozenset({taps.POOLED})

    def loss(self, student, teacher, batch):
        apart = 1 - F.cosine_similarity(student.pooled, teacher.pooled).mean()
        labels = none_loss(student.logits, batch.labels, batch.label_smoothing)
        return {"labels": labels, "cosine": self.config.weight * apart}
```

`vitkd methods test cosine.py` runs the checks that every method here passes: its facts, two epochs of
training, pairs of other shapes, its settings, its taps, a batch learnt by heart, a resumed run, the exported
student. The [contract](../vitkd_bench/contracts/method.py) says what else a method can do: parameters of its
own, attention put into the student, what is fitted before training, peers, further views.
'''


def page() -> str:
    """Write the whole page."""
    sections = [_section(kind) for kind in KINDS if kind not in MAKERS]
    others = RUN_FOR_OTHERS + "\n".join(_named(kind) for kind in MAKERS) + "\n"
    controls = _table(CONTROL_COLUMNS, [_control_row(entry) for entry in CONTROLS])
    experimental = "".join(_experimental())
    return "\n".join([INTRODUCTION, *sections, others, CONTROLS_TEXT, controls, "", USE + experimental + OWN])


def _section(kind: str) -> str:
    rows = [_row(entry) for entry in METHODS if entry.kind == kind]
    return f"## {TITLES.get(kind, kind)}\n\n{_table(COLUMNS, rows)}\n"


def _named(kind: str) -> str:
    """Name the methods of a kind that is run for other runs, and say what for."""
    names = [f"`{entry.name}` ({entry.paper})" for entry in METHODS if entry.kind == kind]
    return f"- {kind} {MAKERS[kind]}: {', '.join(names)}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = [tuple(cell.replace("|", "\\|").replace("*", "\\*") for cell in row) for row in rows]
    lines = [columns, tuple("---" for _ in columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(entry: MethodEntry) -> tuple[str, ...]:
    config = entry.method.Config()
    return (
        f"`{entry.name}`",
        entry.title,
        ", ".join(_reads(entry)),
        ", ".join(dict.fromkeys(entry.needs_under(config))) or "-",
        settings_text(config.plain()) or "-",
        entry.budget or "-",
        entry.paper,
    )


@cache
def _cell() -> CellFacts:
    teacher = TEACHERS.get(TEACHER)
    return CellFacts(
        student=teacher.architecture,
        dataset=resolve_dataset(DATASETS.get("digits"), {}, (), REFRESH),
        teacher=teacher,
        teacher_architecture=teacher.architecture,
        recipe=RECIPES.get("micro_short"),
        train_size=1,
    )


def _reads(entry: MethodEntry) -> Iterator[str]:
    """Name what a step reads of the teacher, where that comes from, and whether it is needed at test."""
    method = entry.method(entry.method.Config(), _cell())
    taps = sorted({tap.partition("/")[0] for tap in method.teacher_taps()})
    made = entry.method.teacher_run(method.config, _cell())
    once = "weights" if entry.kind == "weights" else "one pass before"
    yield from taps or ([once] if entry.reads_teacher else [])
    if made:
        yield f"made first: `{made.method}`"
    if not (taps or entry.reads_teacher):
        yield "w/o teacher"
    if entry.teacher_at_test(method.config):
        yield "teacher at test"


def _control_row(entry: ControlEntry) -> tuple[str, ...]:
    kinds = f"methods of kind {' or '.join(entry.kinds)}" if entry.kinds else ""
    acts_on = ", ".join(filter(None, (*entry.acts_on, kinds)))
    settings = settings_text(_defaults(entry.control.Config))
    return f"`{entry.name}`", entry.title, entry.claim, acts_on or "any that reads a teacher", settings or "-"


def _defaults(config: type[Settings]) -> dict[str, object]:
    return {name: field.get_default() or "-" for name, field in config.model_fields.items()}


def _experimental() -> Iterator[str]:
    """Name the settings that call themselves so, each with the methods that have it."""
    found: dict[str, list[str]] = {}
    for entry in METHODS:
        for name, field in entry.method.Config.model_fields.items():
            for value in get_args(field.annotation):
                if str(value).startswith("experimental"):
                    found.setdefault(f"`{name}: {value}`: {field.description}", []).append(f"`{entry.name}`")
    yield from (f"- {', '.join(names)}, {what}.\n" for what, names in found.items())


def main(arguments: list[str]) -> int:
    """Write or check the page; the exit status."""
    return write_or_check(PAGE, page(), REFRESH, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
