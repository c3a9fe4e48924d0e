// Makes what other people's libraries send: reads what on standard input, prints headers and body as JSON.
// It is given the folder that the libraries were installed into.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(process.argv[2] + "/package.json"));

async function load(name) {
  return import(pathToFileURL(require.resolve(name)).href);
}

async function webhook({ secret, id, body }) {
  const { Webhook } = await load("standardwebhooks");
  const now = new Date();
  const headers = {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
    "webhook-signature": new Webhook(secret).sign(id, now, body),
  };
  return { headers, body };
}

async function token({ claims }) {
  const jose = await load("jose");
  const { publicKey, privateKey } = await jose.generateKeyPair("RS256", { extractable: true });
  const body = await new jose.SignJWT(claims)
    .setProtectedHeader({ alg: "RS256", typ: "secevent+jwt", kid: "theirs" })
    .setIssuedAt()
    .sign(privateKey);
  const jwk = { ...(await jose.exportJWK(publicKey)), kid: "theirs" };
  const headers = { "content-type": "application/secevent+jwt", accept: "application/json" };
  return { headers, body, jwks: { keys: [jwk] } };
}

async function cloudevent({ attributes, data, mode }) {
  const { CloudEvent, HTTP } = await load("cloudevents");
  const event = new CloudEvent({ ...attributes, datacontenttype: "application/json", data });
  const { headers, body } = mode === "binary" ? HTTP.binary(event) : HTTP.structured(event);
  return { headers, body };
}

let text = "";
for await (const part of process.stdin) text += part;
const wanted = JSON.parse(text);
const made = await { webhook, token, cloudevent }[wanted.make](wanted);
console.log(JSON.stringify(made));
