"""/docs, the description of the HTTP API: Swagger UI, from the API itself, with no other host asked."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from keymiss import __version__
from tests.page.browser import Seen
from tests.page.conftest import Site


def test_an_operation_opens_and_can_be_tried(visit: tuple[Page, Seen], site: Site) -> None:
    page, _ = visit  # after the test: no error in the console, no request to another host
    page.goto(f"{site.url}/docs")
    expect(page.get_by_role("heading", name="Keymiss", exact=False).first).to_contain_text(__version__)
    operation = page.locator(".opblock", has_text="/livez")
    operation.locator(".opblock-summary-control").click()
    expect(operation).to_contain_text("Looks at nothing else.")
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table")).to_contain_text('"live"')


def test_a_question_s_examples_and_shapes_are_shown(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/docs")
    operation = page.locator(".opblock-post", has_text="/qasearch")
    operation.locator(".opblock-summary-control").click()
    expect(operation.locator(".body-param__example")).to_contain_text('"search": "Who performs')
    operation.get_by_role("tab", name="Schema").first.click()
    expect(operation).to_contain_text("[1, 512] characters")


def test_it_is_styled(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/docs")
    summary = page.locator(".opblock-post .opblock-summary-method").first
    expect(summary).to_have_css("color", "rgb(255, 255, 255)")


def test_other_files_of_the_package_are_not_given_out(page: Page, site: Site) -> None:
    for name in ("redoc.standalone.js", "favicon.png", "..%2f__init__.py"):
        assert page.request.get(f"{site.url}/docs/{name}").status == 404, name
