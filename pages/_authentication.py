"""Who may come in, where the app is shared: Streamlit's own login, by OpenID Connect.

It is on where .streamlit/secrets.toml has an [auth] section; docs/operating.md says how.
"""

import hashlib

import streamlit as st

from whisperq_core import settings
from whisperq_core.present import markup

_LOCAL = ("localhost", "127.0.0.1", "::1")


def is_on() -> bool:
    """Whether users have to log in."""
    return "is_logged_in" in st.user


def is_logged_in() -> bool:
    """Whether this user did."""
    return is_on() and bool(st.user.is_logged_in)


def user_id() -> str | None:
    """32 hex digits that are this user's at this provider for ever; None where nobody logs in."""
    if not is_logged_in():
        return None
    named = f"{st.user.get('iss')}\n{st.user['sub']}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def user_name() -> str | None:
    """The user for people to read, in the history; None where nobody logs in."""
    if not is_logged_in():
        return None
    return str(st.user.get("email") or st.user.get("name") or st.user["sub"])[:200]


def access_denied() -> str | None:
    """Why the one who logged in may not come in; None for who may.

    WHISPERQ_USERS lists who may: addresses, and domains as @example.org. Where it is empty the
    provider alone decides.
    """
    names = settings.current().users.lower().split(",")
    listed = {name.strip() for name in names} - {""}
    if not listed:
        return None
    email = str(st.user.get("email") or "").lower()
    if not {email, f"@{email.rpartition('@')[2]}"} & listed:
        return f"{email or 'An account without an address'} is not on the list of this app's users."
    # An address that a provider has not verified is anybody's.
    if str(st.user.get("email_verified")).lower() != "true":
        return f"{email} is not verified by your provider, so access is denied."
    return None


def is_allowed() -> bool:
    """Whether the user may see a page."""
    return not is_on() or (is_logged_in() and access_denied() is None)


def sign_in() -> None:
    """What the others see."""
    st.title("WhisperQ")
    st.markdown("Which way of quantizing Whisper to use, and what it costs.")
    if is_logged_in():
        st.error(
            markup.escape_markdown(f"{access_denied()} Ask whoever runs it, or log in as another.")
        )
        st.button("Log out", icon=":material/logout:", on_click=st.logout)
        return
    st.markdown("Your recordings and what is heard in them are seen by nobody else who logs in.")
    st.caption("A link that brought you here has to be opened once more when you are logged in.")
    st.button("Log in", type="primary", icon=":material/login:", on_click=st.login)


def show_user() -> None:
    """In the sidebar: who one is; or that nobody is asked, where others can reach the app."""
    if is_on():
        st.caption(f"Logged in as {markup.escape_markdown(user_name())}")
        st.button("Log out", icon=":material/logout:", on_click=st.logout)
    elif st.get_option("server.address") not in _LOCAL:
        st.warning(
            "Whoever reaches this address can use this machine, and sees all recordings on it."
            " docs/operating.md, “Sharing the app”, says how to ask for a login."
        )
