"""`report.html` in a real browser: it sorts and slides, loads nothing, fits a phone, and axe finds nothing."""

import pages
import pytest

from madbench import results
from madbench.report import workdir

KINDS = ("images", "plane", "line")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pages by name."""
    folder = tmp_path_factory.mktemp("reports")
    for kind in KINDS:
        pages.write(folder / kind, kind=kind, diverged=(pages.LOOPS[1], 2, 3))
    pages.hostile(folder / "hostile")
    for path in folder.iterdir():
        results.write_text(path / workdir.PAGE, workdir.render_page(results.load(path)))
    return {path.name: path / workdir.PAGE for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "theme"),
    [
        ("images", "light"),
        ("images", "dark"),
        ("plane", "light"),
        ("plane", "dark"),
        ("line", "dark"),
        ("hostile", "light"),
    ],
)
def test_nothing_is_amiss(browser, made, name, theme):
    browser.open(made[name], dark=theme == "dark")
    browser.driver.execute_script("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert browser.violations() == []
    assert browser.overflow() <= 0
    assert browser.complaints() == []
    urls = browser.requests()
    assert urls
    assert {url.partition(":")[0] for url in urls} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in urls) == 1  # itself
    assert browser.evaluate("performance.getEntriesByType('resource').filter(e => !/^data:/.test(e.name)).length") == 0


@pytest.mark.parametrize("name", [*KINDS, "hostile"])
def test_it_fits_a_phone(browser, made, name):
    browser.open_on_a_phone(made[name])
    assert browser.evaluate("innerWidth") == 390
    assert browser.overflow() <= 0
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert browser.evaluate(f"{wide}.length") > 0  # the tables scroll within themselves,
    assert browser.evaluate(f"{wide}.every(e => e.tabIndex === 0)")  # from the keyboard too


def test_nothing_is_amiss_on_a_phone(browser, made):
    browser.open_on_a_phone(made["images"])
    assert browser.violations() == []


def test_no_text_becomes_markup(browser, made):
    browser.open(made["hostile"])
    assert browser.evaluate("document.title").startswith(pages.HOSTILE)
    assert browser.texts("h1") == [pages.HOSTILE]
    assert browser.evaluate("document.querySelectorAll('script').length") == 1
    assert browser.evaluate("document.querySelectorAll('[onerror], [style], img:not(.sheet)').length") == 0


def test_a_script_that_came_in_would_not_run(browser, made, tmp_path):
    """Even were something not escaped: the page's policy names the hash of its own script alone."""
    text = made["images"].read_text()
    hole = "<script>document.title = 'broken'</script><img src='http://127.0.0.1:9/x.png'>"
    (tmp_path / "page.html").write_text(text.replace("</main>", f"{hole}</main>"))
    browser.open(tmp_path / "page.html")
    assert browser.evaluate("document.title").startswith("toy")
    assert len(browser.complaints()) >= 2
    assert browser.texts("#theme .theme-name") == ["Dark"]  # our own ran


def column(browser, index):
    return browser.texts(f"#result tbody td:nth-child({index + 1})")


def header(browser, title, nth=0):
    found = [i for i, text in enumerate(browser.texts("#result th")) if text.startswith(title)]
    return found[nth], browser.all("#result th button")[found[nth]]


def sorted_as(browser):
    state = "[...document.querySelectorAll('#result th')].map(e => e.getAttribute('aria-sort'))"
    return [value for value in browser.evaluate(state) if value != "none"]


def numbers(browser, index):
    return [float(text.split("±")[0]) for text in column(browser, index) if not text.startswith("—")]


def test_sorting_by_click(browser, made):
    browser.open(made["images"])
    index, button = header(browser, "FD", 1)
    before = numbers(browser, index)
    button.click()
    falling = numbers(browser, index)
    assert falling == sorted(before, reverse=True) != before
    assert sorted_as(browser) == ["descending"]
    assert column(browser, index)[-1].startswith("—")  # what is missing stays last
    button.click()
    assert numbers(browser, index) == sorted(before)
    assert column(browser, index)[-1].startswith("—")
    assert sorted_as(browser) == ["ascending"]
    loop, by_name = header(browser, "loop")
    by_name.click()
    assert column(browser, loop) == sorted(column(browser, loop))
    assert sorted_as(browser) == ["ascending"]
    assert browser.texts("#said") == ["Sorted by loop, ascending."]


def test_sorting_by_keyboard(browser, made):
    from selenium.webdriver.common.keys import Keys

    browser.open(made["images"])
    index, button = header(browser, "recall", 1)
    before = numbers(browser, index)
    browser.driver.execute_script("arguments[0].focus()", header(browser, "recall", 0)[1])
    browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element == button
    for keys, order in ((Keys.ENTER, sorted(before)), (Keys.SPACE, sorted(before, reverse=True))):
        browser.driver.switch_to.active_element.send_keys(keys)
        assert numbers(browser, index) == order


def shown(browser, selector):
    visible = "[...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).map(e => e.dataset.t)"
    return browser.driver.execute_script(f"return {visible}", selector)


@pytest.mark.parametrize("kind", KINDS)
def test_the_slider_shows_one_generation_of_every_cell(browser, made, kind):
    from selenium.webdriver.common.keys import Keys

    browser.open(made[kind])
    what = "#samples img" if kind == "images" else "#samples path[data-t]"
    assert shown(browser, what) == ["4"] * 4
    slider = browser.all("#samples-generation")[0]
    slider.send_keys(Keys.HOME)
    assert shown(browser, what) == ["1"] * 4
    slider.send_keys(Keys.ARROW_RIGHT)
    assert shown(browser, what) == ["2"] * 4
    assert slider.get_attribute("aria-valuetext") == "generation 2 of 4"
    assert browser.texts("#samples output") == ["2 of 4"]


def test_curves_are_read_at_a_generation(browser, made):
    from selenium.webdriver.common.keys import Keys

    browser.open(made["images"])
    browser.all("#curves-generation")[0].send_keys(Keys.HOME)
    rows = "#curves .panel:first-child tbody tr:nth-child({}) td"
    values = "#curves .panel:first-child .value"
    assert browser.texts(values)[:2] == browser.texts(rows.format(1))[:2]
    browser.all("#curves-generation")[0].send_keys(Keys.END)
    assert browser.texts(values)[:2] == browser.texts(rows.format(4))[:2]
    assert browser.texts(values)[1] == "—"  # diverged


def test_colours_change_and_stay(browser, made):
    back = "getComputedStyle(document.body).backgroundColor"
    browser.open(made["images"])
    light = browser.evaluate(back)
    browser.all("#theme")[0].click()
    dark = browser.evaluate(back)
    assert dark != light
    browser.driver.refresh()
    assert browser.evaluate(back) == dark
    assert browser.complaints() == []
    browser.open(made["images"], dark=True)
    assert browser.evaluate(back) == dark


def test_print_is_light_fits_a_sheet_and_shows_no_controls(browser, made):
    browser.open(made["images"], (718, 1000), dark=True)  # A4 between its margins
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("document.querySelector('.bar').checkVisibility()") is False
    assert browser.evaluate("document.querySelector('.slider').checkVisibility()") is False
    assert browser.overflow() <= 0
