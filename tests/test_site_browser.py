"""The leaderboard's site in a browser: it sorts, asks for nothing, fits a phone, and axe finds nothing serious."""

import entries
import pytest
import submissions

from madbench.leaderboard import site

PAGES = ("index.html", "tasks/tiny.html", "submissions/close.html", "submissions/broken.html")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A site of eight submissions, one of which has markup for texts."""
    path = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        submissions.install(patch, path / "tasks")
        entries.folder(path / "submissions")
        hostile = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">" + "W" * 90
        texts = {
            "hardware": hostile,
            "contact": hostile,
            "note": hostile,
            "url": "https://madbench.example/" + "x" * 150,
        }
        submissions.edit(path / "submissions" / "close" / "submission.json", lambda m: m.update(texts))
        site.build(path / "submissions", path / "site")
    return path / "site"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_are_quiet_and_accessible(browser, folder, name, dark):
    browser.open(folder / name, dark=dark)
    assert browser.violations() == []
    assert browser.overflow() <= 0
    assert browser.evaluate("document.title").endswith("madbench leaderboard")  # no script of a submission ran
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith(("data:", "file:"))] == []
    ours = (folder / name).resolve().as_uri()
    assert {url for url in browser.requests() if url.startswith("file:")} <= {ours}


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_a_phone(browser, folder, name):
    browser.open_on_a_phone(folder / name)
    assert browser.evaluate("window.innerWidth") == 390
    assert browser.overflow() <= 0


def column(browser, table, title):
    """Texts of the column of this title, without the small second line."""
    script = """
      const table = document.querySelector(arguments[0]);
      const index = [...table.tHead.rows[0].cells].findIndex(c => c.textContent.trim().startsWith(arguments[1]));
      return [...table.tBodies[0].rows].map(row => row.cells[index].firstChild.textContent.trim());
    """
    return browser.driver.execute_script(script, table, title)


def press(browser, table, title):
    (button,) = [b for b in browser.all(f"{table} th button") if b.text.startswith(title)]
    button.click()


def test_the_board_sorts_by_name_and_by_score(browser, folder):
    browser.open(folder / "index.html")
    table = "#resistance table"
    by_rank = column(browser, table, "Name")
    assert by_rank[:2] == ["steady", "close"]
    press(browser, table, "Name")
    assert column(browser, table, "Name") == sorted(by_rank)
    press(browser, table, "Overall")  # the largest first
    scores = [float(text) for text in column(browser, table, "Overall")]
    assert scores == sorted(scores, reverse=True)
    press(browser, table, "Overall")
    assert column(browser, table, "Overall") == [f"{score:.1f}" for score in reversed(scores)]
    press(browser, table, "Rank")
    assert column(browser, table, "Rank") == ["1", "2", "3", "4", "5", "5"]


def test_links_lead_from_page_to_page(browser, folder):
    browser.open(folder / "index.html")
    browser.all("#tasks a")[0].click()
    assert browser.evaluate("document.querySelector('h1').textContent") == "Tiny Gaussians"
    next(a for a in browser.all("#board a") if a.text == "close").click()
    assert browser.evaluate("document.querySelector('h1').textContent") == "close"
    browser.all(".brand a")[0].click()
    assert browser.evaluate("location.pathname").endswith("/site/index.html")


def test_the_theme_is_kept_from_page_to_page(browser, folder):
    browser.open(folder / "index.html")
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.all("#theme")[0].click()
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    browser.driver.get((folder / "tasks" / "tiny.html").resolve().as_uri())
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == dark
