"""The pages: the same bytes each time, whole, safe to publish, readable for all."""

import html.parser
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitkd_bench.report import build_board, write_report
from vitkd_bench.report.heatmaps import heatmaps
from vitkd_bench.report.tables import escape_latex

NASTY = "a|b <script>alert(1)</script> & 100 % of $x_1^2$ {y} ~ \\z"
VOID = {"meta", "img", "link", "br", "hr"}


@pytest.fixture(scope="session")
def report(half_way_done: Path) -> Path:
    """A written report; to be read and not changed."""
    write_report([half_way_done], half_way_done / "report")
    return half_way_done / "report"


class Page(html.parser.HTMLParser):
    """What a page is made of; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        """Read the page."""
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that opens."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that the tag that closes is the last that opened."""
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def test_equal_records_give_equal_bytes(full: Path, report: Path) -> None:
    """A copy of the folder elsewhere gives the same files, to the byte."""
    written = write_report([full], full / "report")
    assert len(written) == 8
    for path in written:
        assert path.read_bytes() == (report / path.relative_to(full / "report")).read_bytes(), path.name


def test_a_second_report_replaces_the_first(bench: Callable[..., Any]) -> None:
    """Figures that no longer belong to the report go; other people's files stay."""
    made = bench()
    made.add("deit", "standard", "none", {0: 300})
    figures = made.save() / "report" / "figures"
    figures.mkdir(parents=True)
    old, own = figures / "heatmap-gone.png", figures / "mine.png"
    for path in (old, own):
        path.write_bytes(b"x")
    write_report([made.store.folder], made.store.folder / "report")
    assert (old.exists(), own.exists()) == (False, True)


def test_page_is_whole_and_alone(report: Path) -> None:
    """One file with a title and a language, that loads nothing from anywhere."""
    text = (report / "index.html").read_text()
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en"
    assert "<title>synthetic: leaderboard of vitkd_bench</title>" in text
    assert [a["src"][:10] for a in page.all("img") if a["src"]] == ["data:image"] * 2
    assert all(a["alt"] and a["alt"].startswith("Heatmap of 5 teachers") for a in page.all("img"))
    assert page.all("link") == []
    assert [a for a in page.all("script") if "src" in a] == []
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert any(a.get("name") == "viewport" for a in page.all("meta"))
    assert all("scope" in a for a in page.all("th"))


def test_links_lead_to_files(report: Path) -> None:
    """Every link of the page is a file relative to it: records, figures, tables."""
    links = [a["href"] for a in Page((report / "index.html").read_text()).all("a")]
    assert len(links) > 50
    assert [link for link in links if link is None or not (report / link).is_file()] == []
    assert any(link and link.startswith("../records/") for link in links)


def test_page_shows_all_parts(report: Path) -> None:
    """Summary, leaderboard, verdicts, failures, refusals, protocol and provenance stand on the page."""
    text = (report / "index.html").read_text()
    for part in (
        "Of 17 comparisons",
        "Largest sure gain: +4.2 pp",
        "Verdict by family",
        "non_finite_loss: loss is inf",
        "has no head | for 100 % of &lt;digits&gt;_classes",
        "epochs 8, batch_size 64",
        "A processor, 1 thread, AVX2, Linux x86_64 (54 runs)",
        "c0ffeec0ffee",
        "same sign",
    ):
        assert part in text


def test_hostile_text_stays_text(bench: Callable[..., Any]) -> None:
    """A reason with markup of all three languages breaks none of them."""
    made = bench()
    made.add("deit", "standard", "none", {0: 300})
    made.refuse("deit", "standard", "kd", NASTY)
    folder = made.save()
    write_report([folder], folder / "report")
    text = (folder / "report" / "index.html").read_text()
    assert Page(text).open == []
    assert "<script>alert" not in text
    markdown = (folder / "report" / "leaderboard.md").read_text()
    (line,) = [line for line in markdown.splitlines() if "alert" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 7
    assert "<script" not in markdown.replace(r"\<script", "")


def test_latex_is_escaped_and_balanced(report: Path) -> None:
    """Every group and environment closes, every row has its columns, no special character stands bare."""
    text = (report / "leaderboard.tex").read_text()
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 5
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 5
    for table in text.split(r"\begin{longtable}")[1:]:
        header, *rows = [line for line in table.splitlines() if line.endswith(r"\\") and "&" in line]
        wanted = header.count("&")
        assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {wanted}
    for line in bare.splitlines():
        assert not re.search(r"[_#^]", line.replace(r"\usepackage{booktabs,longtable}", "")), line
        assert line.startswith("%") or "%" not in line


def test_latex_escapes_everything_special() -> None:
    """Text is printed as it stands, on one line."""
    assert escape_latex("a_b & 5 %\n{x}\\~^<>") == (
        r"a\_b \& 5 \% \{x\}\textbackslash{}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"
    )


def test_heatmaps_share_one_centred_scale(half_way_done: Path) -> None:
    """Limits are symmetric, shared by all figures, and hold the largest delta; groups follow the outcome."""
    board = build_board([half_way_done], half_way_done / "report")
    drawn = heatmaps(board)
    largest = max(abs(r.delta.interval.mean) for r in board.rows if r.delta)
    assert len({heatmap.limit for heatmap in drawn}) == 1
    assert largest <= drawn[0].limit < largest + 0.11
    for heatmap in drawn:
        assert [outcome for _, outcome in heatmap.teachers] == ["transfers"] * 3 + ["fails"] * 2
        assert heatmap.methods == ("attn_copy", "attn_distill", "kd")
        states = [heatmap.squares[t, "kd"].state for t, _ in heatmap.teachers]
        assert states == ["done", "refused", "refused", "done", "refused"]
    assert drawn[0].native_is_standard == ("micro/deit", "micro/dino", "micro/mae")


def test_figures_are_what_they_say(report: Path) -> None:
    """PNG in print resolution and SVG without a date, so that figures can be compared."""
    from PIL import Image

    for path in (report / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
            assert image.width > 800
    for path in (report / "figures").glob("*.svg"):
        text = path.read_text()
        assert text.startswith("<?xml")
        assert "dc:date" not in text


def test_nothing_finished_still_gives_a_report(bench: Callable[..., Any]) -> None:
    """With only refusals, or only missing runs, the report says so instead of failing."""
    made = bench()
    made.refuse("deit", "standard", "kd", "no head")
    folder = made.save()
    write_report([folder], folder / "report")
    assert "No cell of this suite can run." in (folder / "report" / "index.html").read_text()
    made.add("deit", "standard", "none", {0: None})
    made.add("deit", "standard", "attn_copy", {0: None})
    folder = made.save()
    assert any(path.suffix == ".png" for path in write_report([folder], folder / "report"))
    assert (
        "Nothing can be compared yet: 0 of 2 runs done." in (folder / "report" / "leaderboard.md").read_text()
    )
