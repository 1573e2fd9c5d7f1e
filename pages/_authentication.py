"""Access control for a shared app: Streamlit's own login, by OpenID Connect.

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
    """Whether this user is logged in."""
    return is_on() and bool(st.user.is_logged_in)


def user_id() -> str | None:
    """A permanent id of this user at this provider, 32 hex digits; None without a login."""
    if not is_logged_in():
        return None
    named = f"{st.user.get('iss')}\n{st.user['sub']}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def user_name() -> str | None:
    """The name shown in the history; None without a login."""
    if not is_logged_in():
        return None
    return str(st.user.get("email") or st.user.get("name") or st.user["sub"])[:200]


def access_denied() -> str | None:
    """Why the logged-in user is denied access; None where access is granted.

    WHISPERQ_USERS lists who has access: addresses, and domains as @example.org. If it is empty,
    everyone whom the provider authenticates has.
    """
    names = settings.current().users.lower().split(",")
    listed = {name.strip() for name in names} - {""}
    if not listed:
        return None
    email = str(st.user.get("email") or "").lower()
    if not {email, f"@{email.rpartition('@')[2]}"} & listed:
        return f"{email or 'An account without an address'} is not on the list of this app's users."
    # Anybody can claim an address that the provider has not verified.
    if str(st.user.get("email_verified")).lower() != "true":
        return f"{email} is not verified by your provider, so access is denied."
    return None


def is_allowed() -> bool:
    """Whether the user may see a page."""
    return not is_on() or (is_logged_in() and access_denied() is None)


def sign_in() -> None:
    """The page for users without access: log in, or why access is denied."""
    st.title("WhisperQ")
    st.markdown("Compare quantization recipes for Whisper: WER, latency, size and memory.")
    if is_logged_in():
        st.error(
            markup.escape_markdown(
                f"{access_denied()} Contact the administrator, or log in with another account."
            )
        )
        st.button("Log out", icon=":material/logout:", on_click=st.logout)
        return
    st.markdown("Other users cannot see your recordings or their transcripts.")
    st.button("Log in", type="primary", icon=":material/login:", on_click=st.login)


def show_user() -> None:
    """In the sidebar: the user; or a warning if others can reach the app without a login."""
    if is_on():
        st.text(f"Logged in as {user_name()}")
        st.button("Log out", icon=":material/logout:", on_click=st.logout)
    elif st.get_option("server.address") not in _LOCAL and not settings.current().results_only:
        st.warning(
            "No login is required: anyone who can reach this address can use this machine. Each"
            " browser lists its own recordings only, but that is no protection. To require a login,"
            " see “Sharing the app” in docs/operating.md."
        )
