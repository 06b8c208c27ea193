// SPDX-License-Identifier: Apache-2.0
// Asks a security key and fills its answer into the form around the button. Everything else works without this file.
"use strict";

const bytesOf = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const textOf = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

// WebAuthn's JSON (Level 3, section 5.1.8), by hand: browsers that are a few years old have no functions for it.
function readOptions(json) {
  const options = JSON.parse(json);
  options.challenge = bytesOf(options.challenge);
  if (options.user) options.user.id = bytesOf(options.user.id);
  for (const list of [options.allowCredentials, options.excludeCredentials]) {
    for (const credential of list || []) credential.id = bytesOf(credential.id);
  }
  return options;
}

function writeAnswer(credential) {
  const { response } = credential;
  const inner = { clientDataJSON: textOf(response.clientDataJSON) };
  if (response.attestationObject) {
    inner.attestationObject = textOf(response.attestationObject);
    inner.transports = response.getTransports ? response.getTransports() : [];
  } else {
    inner.authenticatorData = textOf(response.authenticatorData);
    inner.signature = textOf(response.signature);
    if (response.userHandle) inner.userHandle = textOf(response.userHandle);
  }
  return JSON.stringify({
    id: credential.id,
    rawId: textOf(credential.rawId),
    type: credential.type,
    response: inner,
    clientExtensionResults: credential.getClientExtensionResults(),
    ...(credential.authenticatorAttachment && { authenticatorAttachment: credential.authenticatorAttachment }),
  });
}

const CANNOT = "This key or browser cannot do what is asked for, such as asking for a PIN. Use another one.";
// What the browser's errors mean for a person. It does not tell apart who said no, on purpose.
const MEANINGS = {
  get: {
    AbortError: "You have stopped waiting. Nothing was approved.",
    ConstraintError: CANNOT,
    NotAllowedError:
      "No key has answered: it was cancelled, or the key that was touched is not one of your devices." +
      " You can try again.",
    NotSupportedError: CANNOT,
    SecurityError: "This address is not the one that keys are set up for. Tell your administrator.",
  },
};
MEANINGS.create = {
  ...MEANINGS.get,
  AbortError: "You have stopped waiting. Nothing was added.",
  InvalidStateError: "This key is one of your devices already. Use another one.",
  NotAllowedError: "No key has answered: it was cancelled, or took too long. You can try again.",
};

function explain(error, ceremony, waitedMs, timeoutMs) {
  // A browser that has waited for long enough says the same as one whose person said no.
  if (error.name === "NotAllowedError" && timeoutMs && waitedMs >= timeoutMs - 500) {
    return "No key was touched in time. You can try again.";
  }
  return MEANINGS[ceremony][error.name] || `Your browser could not ask the key (${error.name}). You can try again.`;
}

function prepareCeremony(section) {
  const ceremony = section.dataset.ceremony;
  const form = section.querySelector("form");
  const [start, cancel, status] = ["start", "cancel", "status"].map((name) => section.querySelector(`[data-${name}]`));
  const say = (text, isWaiting = false) => {
    status.textContent = text;
    status.classList.toggle("waiting", isWaiting);
  };
  if (!window.PublicKeyCredential || !navigator.credentials) {
    say("This browser cannot use security keys. Use another browser, or another way to prove it.");
    return;
  }
  let waiting = null;
  const setWaiting = (controller) => {
    waiting = controller;
    start.disabled = Boolean(controller);
    cancel.hidden = !controller;
  };
  start.addEventListener("click", async () => {
    const began = performance.now();
    const publicKey = readOptions(section.dataset.options);
    setWaiting(new AbortController());
    say("Touch your security key now. Your browser may ask you first which one.", true);
    cancel.focus();
    try {
      const credential = await navigator.credentials[ceremony]({ publicKey, signal: waiting.signal });
      form.elements.response_json.value = writeAnswer(credential);
      say("The key has answered.");
      cancel.hidden = true;
      form.submit();
    } catch (error) {
      setWaiting(null);
      say(explain(error, ceremony, performance.now() - began, publicKey.timeout));
      start.focus();
    }
  });
  cancel.addEventListener("click", () => waiting && waiting.abort());
  for (const element of section.querySelectorAll("[data-with-script]")) element.hidden = false;
  // Not by `autofocus`: a page that is painted before this file arrives has none to give to what is still hidden.
  if (document.activeElement === document.body) section.querySelector("[data-focus]")?.focus();
}

// A challenge whose time is over says so by itself.
function watchTime(live) {
  window.setTimeout(() => window.location.replace(live.dataset.here), (Number(live.dataset.secondsLeft) + 1) * 1000);
}

for (const section of document.querySelectorAll("[data-ceremony]")) prepareCeremony(section);
for (const live of document.querySelectorAll("[data-seconds-left]")) watchTime(live);
for (const print of document.querySelectorAll("[data-print]")) {
  print.hidden = false;
  print.addEventListener("click", () => window.print());
}
// Whoever comes back with the browser's button sees the page as it is now, and not what was kept of it.
window.addEventListener("pageshow", (event) => event.persisted && window.location.reload());
