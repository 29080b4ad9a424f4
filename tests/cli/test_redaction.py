import pytest

from options.redaction import looks_secret, redact, redactor, shown


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://user:pa55@minio:9000/b", "https://***@minio:9000/b"),
        ("postgresql://ferry:pa55@db/ledger", "postgresql://***@db/ledger"),
        ("host=db password=pa55 dbname=ledger", "host=db password=*** dbname=ledger"),
        ("GET /k?X-Amz-Signature=abc123&x=1", "GET /k?X-Amz-Signature=***&x=1"),
        ('{"SecretAccessKey": "abc/123"}', '{"SecretAccessKey": "***"}'),
        ("key AKIAIOSFODNN7EXAMPLE was refused", "key *** was refused"),
    ],
)
def test_a_secret_in_a_text_is_masked(text: str, masked: str) -> None:
    assert redact(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "InvalidAccessKeyId: The AWS Access Key Id you provided does not exist",
        "ExpiredToken: the provided token has expired",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "s3://bucket/some@key is gone",
    ],
)
def test_an_ordinary_message_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_secrets_of_the_environment_are_masked_wherever_they_turn_up() -> None:
    mask = redactor(
        {
            "SOURCE_AWS_SECRET_ACCESS_KEY": "source-secret",
            "AWS_SESSION_TOKEN": "session-token",
            "PGPASSWORD": "pg-password",
            "LEDGER_DSN": "postgresql://ferry:dsn-passw/rd@db/ledger",
            "AWS_SHARED_CREDENTIALS_FILE": "/etc/aws/credentials",
        }
    )

    text = mask("source-secret session-token pg-password dsn-passw/rd /etc/aws/credentials")

    assert text == "*** *** *** *** /etc/aws/credentials"


def test_a_value_is_shown_escaped_and_short() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 1000)) < 200


def test_a_secret_key_is_recognised_by_its_form() -> None:
    assert looks_secret("wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12")
    assert not looks_secret("da39a3ee5e6b4b0d3255bfef95601890afd80709")
