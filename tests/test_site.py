"""`site`: every page there and linked, nothing of a submission that is not text, written whole or not at all."""

import html.parser
import os
import pathlib
import re
import shutil
import urllib.parse

import entries
import pytest
import submissions
import test_checks_fuzz as fuzz

from madbench import REPOSITORY
from madbench.errors import UserError
from madbench.leaderboard import board as boards
from madbench.leaderboard import costs, markdown, site

DATA = ("leaderboard.csv", "leaderboard.json", "curves.csv", "curves.json")
ROOT = pathlib.Path(__file__).resolve().parent.parent
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield submissions.install(patch, tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def board(task, tmp_path_factory):
    return boards.load(entries.folder(tmp_path_factory.mktemp("all") / "submissions"))


@pytest.fixture(scope="module")
def pages(board):
    return site.pages(board)


class Read(html.parser.HTMLParser):
    """Elements with their attributes, and the text outside of style and script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("style", "script") else self._inside

    def handle_endtag(self, tag):
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data):
        self.text += "" if self._inside else data


def of_html(pages):
    return {name: Read(text) for name, text in pages.items() if name.endswith(".html")}


def test_there_is_a_page_for_each_task_and_each_submission(pages, board):
    named = {f"submissions/{entry.folder}.html" for entry in board.entries}
    assert set(pages) == {"index.html", "tasks/tiny.html", *DATA, *named}


def test_every_link_leads_somewhere_within_the_site(pages):
    for name, page in of_html(pages).items():
        links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
        assert len(links) > 2
        for link in links:
            if link.startswith(REPOSITORY):
                assert link == REPOSITORY or (ROOT / link.removeprefix(f"{REPOSITORY}/blob/main/")).is_file()
                continue
            parts = urllib.parse.urlsplit(link)
            assert not parts.scheme
            assert not parts.netloc
            assert not link.startswith("/")
            target = os.path.normpath(os.path.join(os.path.dirname(name), parts.path)) if parts.path else name
            assert target in pages
            if parts.fragment:
                ids = {attrs.get("id") for _, attrs in Read(pages[target]).elements}
                assert parts.fragment in ids


def test_every_page_names_a_policy_and_loads_nothing(pages):
    for page in of_html(pages).values():
        policies = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
        assert len(policies) == 1
        assert policies[0].startswith("default-src 'none'")
        assert "unsafe" not in policies[0]
        for tag, attrs in page.elements:
            assert tag not in ("iframe", "object", "embed", "form", "base")
            assert "src" not in attrs
            assert "style" not in attrs  # the policy forbids it
            assert not [name for name in attrs if name.startswith("on")]


def test_pages_show_the_numbers_of_the_board(pages, board, task):
    read = of_html(pages)
    for line in board.resistance(task):
        score = f"{line.of.resistance['score']:.1f}"
        for name in ("index.html", "tasks/tiny.html", f"submissions/{line.of.slug}.html"):
            assert score in read[name].text
        for cell in line.of.summary["cells"]:
            assert f"{cell['score']:.1f}" in read[f"submissions/{line.of.slug}.html"].text
    assert "not clearly behind the first" in read["submissions/close.html"].text
    assert "25,920" in read["index.html"].text


def test_invalidated_submissions_have_a_reason_and_no_numbers(pages, board):
    read = of_html(pages)
    for name in ("broken", "refuted"):
        reason = next(entry.reason for entry in board.entries if entry.folder == name)
        for page in ("index.html", "tasks/tiny.html", f"submissions/{name}.html"):
            assert reason in read[page].text
        assert "none of its numbers count" in read[f"submissions/{name}.html"].text
        assert "Resistance" not in read[f"submissions/{name}.html"].text
    assert "failed" in read["submissions/broken.html"].text
    assert "12 values compared" in read["submissions/rerun.html"].text


@pytest.fixture
def hostile(task, tmp_path):
    """One whose texts pass the checks and are markup all the same, and one in which nothing passes."""
    folder = tmp_path / "submissions"
    run = submissions.workdir(tmp_path / "run")
    texts = {"contact": HOSTILE, "hardware": HOSTILE, "note": HOSTILE, "url": "https://x.example/?a=%22&b=1"}
    submissions.packed(folder / "valid", run, name="valid", **texts)
    submissions.edit(folder / "valid" / "environment.json", lambda e: e.update(platform=HOSTILE))
    submissions.edit(folder / "valid" / "environment.json", lambda e: e["device"].update(kind=HOSTILE))
    submissions.edit(folder / "valid" / "environment.json", lambda e: e["versions"].update({HOSTILE: HOSTILE}))
    submissions.redo_hashes(folder / "valid")
    notes = {"reason": HOSTILE, "rule": HOSTILE, "samples": HOSTILE, "notes": [HOSTILE], "benchmark": HOSTILE}
    entries.verify(folder / "valid", "re-run", **notes, device={"kind": HOSTILE})
    broken = folder / "<img src=x onerror=alert(1)>"
    shutil.copytree(folder / "valid", broken)
    submissions.edit(
        broken / "submission.json", lambda m: m.update(name=HOSTILE, task=HOSTILE, url="javascript:alert(1)")
    )
    scripted = folder / "scripted"
    shutil.copytree(folder / "valid", scripted)
    submissions.edit(scripted / "submission.json", lambda m: m.update(url="javascript:alert(1)"))
    return boards.load(folder)


def test_texts_of_submissions_are_never_markup(hostile, task):
    assert [entry.status for entry in hostile.entries] == ["invalidated", "invalidated", "re-run (other device)"]
    found = site.pages(hostile)
    ours = {attrs.get("id") for tag, attrs in Read(found["index.html"]).elements if tag == "script"}
    for name, page in of_html(found).items():
        assert re.fullmatch(r"[A-Za-z0-9./_-]+", name)
        assert "<img" not in found[name]
        assert [attrs.get("id") for tag, attrs in page.elements if tag == "script"] == list(ours)
        assert not [a for _, a in page.elements for key in a if key.startswith("on")]
        for tag, attrs in page.elements:
            if tag == "a" and ":" in attrs["href"] and not attrs["href"].startswith(REPOSITORY):
                assert attrs == {"href": "https://x.example/?a=%22&b=1", "rel": "nofollow noopener noreferrer"}
    valid = Read(found["submissions/valid.html"])
    assert valid.text.count(HOSTILE) >= 8  # shown as it is: three texts, device, platform, version, the verification
    assert "javascript:" not in "".join(map(str, valid.elements))


def test_an_address_of_another_kind_is_no_link(board):
    for url in ("javascript:alert(1)", "data:text/html,x", "//x.example", "ftp://x.example", "https:", "https:// x"):
        odd = boards.dataclasses.replace(board.entries[-1], url=url)
        page = Read(site.pages(boards.Board(board.tasks, [], [odd]))["submissions/twin.html"])
        assert url not in [attrs.get("href") for _, attrs in page.elements]


def test_damaged_submissions_have_pages(task, tmp_path):
    """Of `test_checks_fuzz`'s kinds: none breaks the board, and none has numbers unless every check passes."""
    honest = submissions.packed(tmp_path / "honest")
    statuses = set()
    for seed in range(40):
        fuzz.judge(honest, tmp_path / "entry", fuzz.DAMAGE, seed, redo=False)
        entry = boards.judge(tmp_path / "entry", "entry")
        statuses.add(entry.status)
        found = site.pages(boards.Board([task], [], [entry]))
        assert entry.reason.split(":")[0] in found["submissions/entry.html"]
        assert entry.reason.isprintable()
    assert statuses == {"invalidated"}


def test_the_package_ships_the_templates():
    patterns = re.search(
        r"package_data=(\{.*?\})", (pathlib.Path(__file__).parent.parent / "setup.py").read_text(), re.S
    )
    assert '"leaderboard/templates/*"' in patterns[1]
    assert sorted(p.name for p in site.TEMPLATES.iterdir()) == ["index.html", "submission.html", "task.html"]


def test_a_board_without_any_rank_has_its_pages(board):
    found = site.pages(boards.Board(board.tasks, ["later"], board.invalidated))
    assert "No submission counts yet." in found["index.html"]
    assert "later" in Read(found["index.html"]).text


# ---- writing ---------------------------------------------------------------------------------------------------------


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_site_is_written_and_written_again(pages, tmp_path):
    out = tmp_path / "deep" / "site"
    site.write(pages, out)
    first = content(out)
    assert {name: text for name, text in first.items() if name != site.MADE} == pages
    fewer = {name: text for name, text in pages.items() if "twin" not in name}
    site.write(fewer, out)
    assert {name: text for name, text in content(out).items() if name != site.MADE} == fewer
    assert sorted(p.name for p in out.parent.iterdir()) == ["site"]


def test_the_same_board_gives_the_same_site(pages, board):
    assert site.pages(board) == pages


def test_an_empty_folder_is_taken(pages, tmp_path):
    site.write(pages, tmp_path)
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize("added", ["mine.txt", "tasks/mine.html", "link"])
def test_what_others_put_there_is_never_removed(pages, tmp_path, added):
    out = tmp_path / "site"
    site.write(pages, out)
    if added == "link":
        os.symlink(tmp_path, out / added)
    else:
        (out / added).write_text("mine")
    before = content(out)
    with pytest.raises(UserError, match=re.escape(added)):
        site.write({"index.html": "new"}, out)
    assert content(out) == before


def test_a_folder_of_other_files_a_file_and_a_link_are_refused(pages, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    before = content(tmp_path)
    for name, message in (("other", "holds other files"), ("file", "is no folder"), ("link", "is no folder")):
        with pytest.raises(UserError, match=message):
            site.write(pages, tmp_path / name)
    assert content(tmp_path) == before


def test_a_site_that_cannot_be_written_leaves_the_old_one(pages, tmp_path, monkeypatch):
    out = tmp_path / "site"
    site.write(pages, out)
    before = content(out)
    real, calls = os.replace, []

    def fails_the_second_time(a, b):
        calls.append(a)
        if len(calls) == 2:
            raise OSError("no space")
        real(a, b)

    monkeypatch.setattr(os, "replace", fails_the_second_time)
    with pytest.raises(OSError, match="no space"):
        site.write({"index.html": "new"}, out)
    assert content(out) == before
    monkeypatch.setattr(pathlib.Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        site.write({"index.html": "new"}, out)
    assert content(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["site"]


def test_the_site_says_what_a_method_is(board):
    assert markdown.ABOUT in Read(site.pages(board)["index.html"]).text
    assert markdown.render(board).startswith(f"{markdown.ABOUT}\n\n")


def test_the_speed_board_says_the_status(board, task):
    for page in ("index.html", "tasks/tiny.html"):
        text = site.pages(board)[page]
        table = re.search(r"<caption[^>]*>Loop-generations per hour.*?</table>", text, re.S)[0]
        rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.S)
        shown = [re.findall(r'class="badge \w+">([^<]+)<', row) for row in rows]
        assert shown == [[line.of.status] for line in board.speed(task)]


def test_the_page_of_a_submission_shows_what_its_method_is_and_cost(task, tmp_path):
    strategy = submissions.COPIER | {
        "name": "my_package.my_module:Copier(label='&x')", "settings": {"label": "&x", "n": [1, 2.5], "text": HOSTILE},
        "consumes": [*submissions.COPIER["consumes"], HOSTILE], "cite": HOSTILE,
    }  # fmt: skip
    submissions.workdir(tmp_path / "run", strategy=strategy)
    submissions.packed(tmp_path / "all" / "one", tmp_path / "run")
    found = boards.load(tmp_path / "all")
    assert [(e.status, e.reason) for e in found.entries] == [("self-reported", "")]
    pages = site.pages(found)
    page = Read(pages["submissions/one.html"])
    settings, consumes = (
        f"label = &x, n = [1, 2.5], text = {HOSTILE}",
        f"{submissions.COPIER['consumes'][0]}, {HOSTILE}",
    )
    for text in (
        strategy["name"],
        settings,
        consumes,
        HOSTILE,
        "0.985 times that without a strategy",
        "Extra parameters",
        "90.0%",
        costs.COPIED,
    ):
        assert text in page.text
    assert "<img" not in "".join(pages.values())
    for name in ("index.html", "tasks/tiny.html"):
        assert costs.COPIED in Read(pages[name]).text
    assert "(label='&x')" in Read(pages["tasks/tiny.html"]).text


def test_a_submission_without_a_method_has_no_part_on_it(pages, board):
    assert 'id="method"' not in pages["submissions/steady.html"]
    assert costs.COPIED not in "".join(pages.values())
