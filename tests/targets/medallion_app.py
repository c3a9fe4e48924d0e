"""TAXII 2.1 source: the third-party PyPI package medallion, with objects made by stix2.

All objects are of one instant, as if one request had added them, and a page has few of them.
Started by start-medallion.sh; see there.
"""
import argparse
import json
import tempfile
import uuid

import medallion
import stix2

ADDED = "2024-01-19T21:30:00.000000Z"


def made(number):
    """Makes one object: incidents, and now and then an indicator."""
    kind = "indicator" if number % 10 == 9 else "incident"
    common = {
        "id": f"{kind}--{uuid.uuid5(uuid.NAMESPACE_OID, str(number))}",
        "created": ADDED,
        "modified": ADDED,
        "name": f"object {number}",
        "labels": ["vendor:acme", "severity:medium"],
    }
    if kind == "indicator":
        pattern = "[ipv4-addr:value = '192.0.2.1']"
        return stix2.Indicator(pattern=pattern, pattern_type="stix", valid_from=ADDED, **common)
    return stix2.Incident(**common)


def main():
    """Writes the data down and serves it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--objects", type=int, default=1001)
    parser.add_argument("--page", type=int, default=2)
    options = parser.parse_args()
    media = "application/stix+json;version=2.1"
    objects = [json.loads(made(number).serialize()) for number in range(options.objects)]
    manifest = [
        {"id": one["id"], "date_added": ADDED, "version": one["modified"], "media_type": media} for one in objects
    ]

    def collection(name, objects, manifest):
        return {
            "id": name, "title": name, "can_read": True, "can_write": False,
            "media_types": [media], "objects": objects, "manifest": manifest,
        }

    data = {
        "/discovery": {"title": "TAXII", "default": "/api1/", "api_roots": ["/api1/"]},
        "api1": {
            "information": {
                "title": "one", "versions": ["application/taxii+json;version=2.1"], "max_content_length": 1 << 20,
            },
            "status": [],
            "collections": [collection("full", objects, manifest), collection("empty", [], [])],
        },
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(data, file)
        file.flush()
        backend = {
            "module": "medallion.backends.memory_backend", "module_class": "MemoryBackend",
            # How long a `next` is known: a busy machine takes its time over five hundred pages.
            "filename": file.name, "session_timeout": 600,
        }
        config = {
            "backend": backend, "users": {"reader": "let-me-read"}, "taxii": {"max_page_size": options.page},
        }
        for part in ("users", "taxii", "backend"):
            medallion.set_config(medallion.application_instance, part, config)
    medallion.register_blueprints(medallion.application_instance)
    medallion.application_instance.run(host="127.0.0.1", port=options.port)


main()
