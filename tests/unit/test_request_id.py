"""Which ids of clients are used, and what a new one looks like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keymiss.request_id import USABLE, new_request_id, request_id_from, usable

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("given", ["12345678", "A-b_c.d0", "x" * 64, "0af7651916cd43dd8448eb211c80319c"])
def test_a_usable_id_is_kept(given: str) -> None:
    assert request_id_from(given) == given


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "1234567",
        "x" * 65,
        "with blank",
        'quote"d___',
        "line\nbreak",
        "12345678\n",
        "\u00fcmlaute12",
    ],
)
def test_any_other_is_replaced(given: str | None) -> None:
    made = request_id_from(given)
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert usable(made)


def test_a_new_one_is_new() -> None:
    made = new_request_id()
    assert request_id_from(made) == made
    assert new_request_id() != new_request_id()


def test_nginx_uses_the_same_form() -> None:
    template = (ROOT / "nginx/nginx.conf.template").read_text()
    assert f'"~^{USABLE.pattern}$" $http_x_request_id' in template
