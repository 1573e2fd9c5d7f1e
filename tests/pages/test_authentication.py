"""The app without a login: who is warned. With one, see tests/browser/test_login.py."""

import pytest
from streamlit import config

from tests.support.opened_pages import opened


def sidebar_warnings(address: str | None) -> list[str]:
    before = config.get_option("server.address")
    config.set_option("server.address", address)
    try:
        return [warning.value for warning in opened("app").sidebar.warning]
    finally:
        config.set_option("server.address", before)


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", None])
def test_an_open_address_is_warned_of(store, address):
    (warning,) = sidebar_warnings(address)
    assert "anyone who can reach this address" in warning and "docs/operating.md" in warning


def test_an_address_of_this_machine_is_not(store):
    assert sidebar_warnings("localhost") == []
