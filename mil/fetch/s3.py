"""Files at `s3:` URLs, asked for without an account."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)
from urllib3.exceptions import HTTPError

from mil.errors import DatasetError, brief
from mil.fetch.remote import MD5_ETAG, ChangedError, CutError, Facts, Response, remedy
from mil.versions import TOOL_VERSION

# No name of an access point, whose owner and region a table would choose.
URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", re.IGNORECASE | re.DOTALL)
TIMEOUT_S = 60
# Buckets of other regions answer with theirs, where botocore asks again.
REGION = "us-east-1"
PRECONDITION_FAILED = 412
UNSATISFIABLE_RANGE = 416
TRANSIENT = (408, 429, 500, 502, 503, 504)


@cache
def _client() -> Any:
    """Client for public buckets; endpoint and region are those of AWS's usual settings."""
    session = botocore.session.Session()
    config = Config(
        signature_version=UNSIGNED,
        connect_timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        # Attempts are counted by `download`, which goes on where a connection broke.
        retries={"mode": "standard", "total_max_attempts": 1},
        # Of a range, S3 states the checksum of the whole file.
        response_checksum_validation="when_required",
        max_pool_connections=32,
        user_agent_extra=f"mil/{TOOL_VERSION}",
    )
    region = session.get_config_variable("region") or REGION
    return session.create_client("s3", region_name=region, config=config)


@dataclass(frozen=True)
class S3File:
    """An object of a public bucket; see `mil.fetch.remote.Remote`.

    Attributes:
        url: `s3://BUCKET/KEY`; the key as it is, without escapes.
        bucket: Name of the bucket.
        key: Key of the object.
        by_hand: Where a user may put the file, for messages.
    """

    url: str
    bucket: str
    key: str
    by_hand: Path

    @classmethod
    def of(cls, url: str, by_hand: Path) -> "S3File":
        """The object that a URL names.

        Raises:
            DatasetError: The URL is malformed.
        """
        match = URL.fullmatch(url)
        if match is None:
            raise DatasetError(f"{url!r}: no URL of an object; s3: URLs are s3://BUCKET/KEY")
        return cls(url, match[1], match[2], by_hand)

    def facts(self) -> Facts:
        return _facts(self._ask("head_object"))

    @contextmanager
    def open(self, start: int, validator: str) -> Iterator[Response]:
        asked = {"Range": f"bytes={start}-", "IfMatch": validator} if start else {}
        answer = self._ask("get_object", **asked)
        facts = _facts(answer)
        facts = Facts(start + facts.size, facts.validator, facts.md5_etag)
        body = answer["Body"]

        def read(count: int) -> bytes:
            try:
                return body.read(count)
            # botocore translates not all errors of the library below it.
            except (BotoCoreError, HTTPError, OSError) as error:
                raise CutError(brief(error)) from None

        try:
            yield Response(facts, start, read)
        finally:
            body.close()

    def part_bytes(self) -> int:
        return int(self._ask("head_object", PartNumber=1)["ContentLength"])

    def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            return getattr(_client(), operation)(Bucket=self.bucket, Key=self.key, **arguments)
        except ClientError as error:
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            if status in (PRECONDITION_FAILED, UNSATISFIABLE_RANGE):
                raise ChangedError from None
            answer = f"the bucket answered {status} {error.response['Error'].get('Code', '')}"
            if status in TRANSIENT:
                raise CutError(answer.strip()) from None
            raise DatasetError(f"{self.url}: {answer}; {remedy(self.by_hand)}") from None
        except (HTTPClientError, EndpointConnectionError, ConnectTimeoutError) as error:
            raise CutError(brief(error)) from None
        # The latter of an endpoint in the environment that is no URL.
        except (BotoCoreError, ValueError) as error:
            raise DatasetError(f"{self.url}: {brief(error)}; {remedy(self.by_hand)}") from None


def _facts(answer: dict[str, Any]) -> Facts:
    etag = str(answer.get("ETag", ""))
    md5_etag = etag.strip('"')
    # Of objects that S3 encrypts by other keys, it is no MD5.
    plain = answer.get("ServerSideEncryption", "AES256") == "AES256"
    if not plain or not MD5_ETAG.fullmatch(md5_etag):
        md5_etag = ""
    return Facts(int(answer.get("ContentLength", 0)), etag, md5_etag)
