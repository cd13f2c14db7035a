"""The report stands alone, says what it was given, and survives odd input."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from facetrain.datasets.sample import Rejection
from facetrain.training import plots
from facetrain.training.report import (
    CurveGroup,
    Figure,
    Pictures,
    Section,
    Table,
    curve_section,
    data_section,
    write_report,
)

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that tags nest, and gathers links, texts and pictures."""

    def __init__(self, html):
        super().__init__()
        self.open, self.targets, self.ids, self.tags, self.texts = [], [], [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "data", "action", "srcset"):
                self.targets.append(value)
            if name == "id":
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def sections():
    picture = np.zeros((24, 24, 3), np.uint8)
    picture[:, :12] = (250, 10, 10)
    return [
        Section(
            "Tables & text",
            [
                "A paragraph.",
                Table(["region", "error, px"], [["<eyes>", 2.0], ["ears", float("nan")], ["n", 7]], "All."),
            ],
        ),
        Section(
            "Figures",
            [
                Figure(plots.curves({"loss": ([1, 2, 3], [9.0, 3.0, 1.0])}, "step", "loss", log=True), "The loss."),
                Figure(plots.bars({"all": {"eyes": 1.0, "ears": float("nan")}}, "error, px"), "Bars."),
                Figure(plots.ced({"all": np.array([1.0, 2.0, np.nan])}, "error, %", limit=8, thresholds=(8,)), "CED."),
                Figure(plots.circles(np.array([[0.0, 0], [9, 9]]), np.array([1.0, np.nan]), ["0", "1"]), "Face."),
            ],
        ),
        Section("Pictures", [Pictures([(picture, 'face "1".jpg')], "Worst.")]),
    ]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "report.html"
    write_report(path, "Run <1>", {"Model": "FPENet & co"}, sections())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_nothing_is_fetched(html):
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(target.startswith(("#", "data:image/")) for target in page.targets)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert set(re.findall(r"https?://[^\"'\s>]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_contents_lead_to_every_section(html):
    page = Page(html)
    links = [target[1:] for target in page.targets if re.fullmatch(r"#s\d+", target)]
    assert len(links) == 3
    assert set(links) <= set(page.ids)


def test_names_from_outside_are_text_and_not_markup(html):
    assert "<title>Run &lt;1&gt;</title>" in html
    assert "FPENet &amp; co" in html
    assert "&lt;eyes&gt;" in html
    assert 'alt="face &quot;1&quot;.jpg"' in html


def test_a_cell_without_a_number_is_a_dash(html):
    assert '<td>ears</td><td class="number">\N{EN DASH}</td>' in html
    assert '<td class="number">2.000</td>' in html
    assert '<td class="number">7</td>' in html
    assert ">nan<" not in html.lower()


def test_every_figure_and_picture_has_its_caption(html):
    for caption in ("The loss.", "Bars.", "CED.", "Face.", "Worst.", "All."):
        assert f"<figcaption>{caption}</figcaption>" in html
    assert Page(html).tags.count("svg") == 4


def test_figures_take_the_page_s_colours(html):
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert "currentColor" in svg
        assert not set(re.findall(r"#[0-9a-f]{6}\b", svg)) & {*plots.COLOURS, "#000000", "#14161a"}
        assert "viewBox" in svg
    for name in ("--c0", "--line"):
        assert html.count(f"{name}:") == 3  # light, dark and print


def test_pictures_are_in_the_page(html):
    data = re.search(r"data:image/jpeg;base64,([^\"]+)", html).group(1)
    picture = np.asarray(Image.open(BytesIO(base64.b64decode(data))), int)
    assert picture.shape == (24, 24, 3)
    assert np.abs(picture[5, 5] - (250, 10, 10)).max() < 12


def test_the_same_input_gives_the_same_bytes(tmp_path, html):
    write_report(tmp_path / "again.html", "Run <1>", {"Model": "FPENet & co"}, sections())
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_a_group_plots_the_metrics_it_names():
    log = [
        {"kind": "train", "step": 1, "epoch": 1, "loss": 4.0, "learning_rate": 1e-3},
        {"kind": "val", "step": 1, "epoch": 1, "loss": 9.0, "nme": 5.0},
        {"kind": "train", "step": 2, "epoch": 1, "loss": 2.0, "learning_rate": 2e-3, "note": "text"},
        {"kind": "train", "step": 3, "epoch": 2, "loss": float("nan"), "learning_rate": 3e-3},
    ]
    groups = [
        CurveGroup("train", "(?!learning_rate).*", "loss", "Loss."),
        CurveGroup("val", "nme", "NME, %", "NME."),
        CurveGroup("val", "auc", "AUC", "AUC."),
    ]
    section = curve_section("Training", log, groups)
    assert [block.caption for block in section.blocks] == ["Loss.", "NME."]
    (line,) = section.blocks[0].plot.axes[0].lines
    assert line.get_label() == "loss"
    assert line.get_xydata().tolist() == [[1, 4], [2, 2]]


def test_a_run_that_logged_nothing_says_so():
    assert curve_section("Training", [], [CurveGroup("train", ".*", "loss", "Loss.")]).blocks == ["Nothing was logged."]


def test_the_cumulative_curve_steps_at_each_error():
    figure = plots.ced({"all": np.array([4.0, 1.0, np.nan, 20.0, 2.0])}, "error, %", limit=8)
    curve = figure.axes[0].lines[0].get_xydata()
    assert curve[:4].tolist() == [[0, 0], [1, 25], [2, 50], [4, 75]]


def test_png_files_are_written(tmp_path):
    plots.save_png(plots.ced({"all": np.array([1.0])}, "error, %", limit=8), tmp_path / "ced.png")
    assert Image.open(tmp_path / "ced.png").size[0] > 500


def test_rejections_are_counted_by_reason():
    cases = [Rejection("a", 1, "image missing"), Rejection("b", 2, "broken label"), Rejection("c", 3, "broken label")]
    (block,) = data_section(cases).blocks
    assert [row[:2] for row in block.rows] == [["broken label", 2], ["image missing", 1]]
    assert block.rows[0][2] == "b:2: broken label"
