"""Makes what other people's libraries send: reads what on standard input, prints headers and body as JSON.

    echo '{"make": "webhook", "secret": "whsec_…", "id": "m1", "body": "{}"}' | sender.py
"""

import datetime
import json
import sys
import time


def webhook(wanted):
    from standardwebhooks import Webhook

    now = datetime.datetime.now(tz=datetime.timezone.utc)
    signature = Webhook(wanted["secret"]).sign(wanted["id"], now, wanted["body"])
    headers = {
        "content-type": "application/json",
        "webhook-id": wanted["id"],
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    return {"headers": headers, "body": wanted["body"]}


def token(wanted):
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa
    from jwt.algorithms import RSAAlgorithm

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {**wanted["claims"], "iat": int(time.time())}
    header = {"typ": "secevent+jwt", "kid": "theirs"}
    body = jwt.encode(claims, key, algorithm="RS256", headers=header)
    jwk = {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "theirs"}
    headers = {"content-type": "application/secevent+jwt", "accept": "application/json"}
    return {"headers": headers, "body": body, "jwks": {"keys": [jwk]}}


def cloudevent(wanted):
    from cloudevents.core.bindings import http
    from cloudevents.core.v1.event import CloudEvent

    attributes = {**wanted["attributes"], "specversion": "1.0", "datacontenttype": "application/json"}
    attributes["time"] = datetime.datetime.fromisoformat(attributes["time"])
    event = CloudEvent(attributes, wanted["data"])
    make = http.to_binary_event if wanted["mode"] == "binary" else http.to_structured_event
    message = make(event)
    body = message.body
    return {"headers": dict(message.headers), "body": body.decode() if isinstance(body, bytes) else body}


def finding(wanted):
    from py_ocsf_models.events.findings.detection_finding import DetectionFinding

    made = DetectionFinding.model_validate(wanted["finding"])
    return {"headers": {"content-type": "application/json"}, "body": made.model_dump_json(exclude_none=True)}


wanted = json.load(sys.stdin)
make = {"webhook": webhook, "token": token, "cloudevent": cloudevent, "finding": finding}
print(json.dumps(make[wanted["make"]](wanted)))
