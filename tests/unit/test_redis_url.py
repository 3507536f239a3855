"""Where Redis is: the forms of the URL, and what is wrong with others."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from goqueue.config.redis_url import RedisAddress, parse_redis_url
from goqueue.config.settings import Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://u:p@h:6380/2", RedisAddress("server", "redis://u:p@h:6380/2")),
        ("unix:///run/redis.sock?db=1", RedisAddress("server", "unix:///run/redis.sock?db=1")),
        (
            "redis+sentinel://a,b:26380,[::1]:26381/main/3",
            RedisAddress("sentinel", "redis://a/3", (("a", 26379), ("b", 26380), ("::1", 26381)), "main"),
        ),
        (
            "rediss+sentinel://u:p%40w@a/main?sentinel_username=s&sentinel_password=x%26y&ssl_ca_certs=/ca",
            RedisAddress(
                "sentinel",
                "rediss://u:p%40w@a/0?ssl_ca_certs=%2Fca",
                (("a", 26379),),
                "main",
                ("s", "x&y"),
            ),
        ),
        (
            "redis+cluster://u:p@a:7000,b",
            RedisAddress("cluster", "redis://u:p@a:7000/0", (("a", 7000), ("b", 6379))),
        ),
    ],
    ids=["server", "socket", "sentinels", "sentinels with logins", "cluster"],
)
def test_a_url_says_where_redis_is(text: str, expected: RedisAddress) -> None:
    """Each form is read into which servers, and how one of them is reached."""
    assert parse_redis_url(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://h", "one of the schemes"),
        ("redis+sentinel://a,b", "what the Sentinels call the primary"),
        ("redis+sentinel://a/main/x", "number of a database"),
        ("redis+sentinel://a,/main", "hosts, comma separated"),
        ("redis+sentinel://u:hunter2@a:0/main", "hosts, comma separated"),
        ("redis+cluster://a:99999", "hosts, comma separated"),
        ("redis+cluster://a/1", "no database"),
        ("redis+cluster://", "hosts, comma separated"),
    ],
    ids=["scheme", "no name", "database", "empty host", "port 0", "port", "database of a cluster", "none"],
)
def test_what_cannot_be_reached_is_refused(text: str, message: str) -> None:
    """A wrong URL says what was expected, and no password."""
    with pytest.raises(ValueError, match=message) as caught:
        parse_redis_url(text)
    assert "hunter2" not in str(caught.value)


def test_passwords_of_sentinels_are_masked() -> None:
    """What `goqueue check` prints shows the hosts and hides both passwords."""
    url = "redis+sentinel://u:hunter2@a:1,b:2/main?sentinel_password=hunter2"
    masked = Settings(redis_url=SecretStr(url)).masked()["redis_url"]
    assert masked == "redis+sentinel://**********@a:1,b:2/main?sentinel_password=**********"
